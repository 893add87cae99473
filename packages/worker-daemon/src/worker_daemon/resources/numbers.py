"""GET /metrics: numbers for Prometheus."""

from __future__ import annotations

import falcon
import worker_core

from worker_daemon import metrics
from worker_daemon.resources import base


class Numbers(base.Resource):
    """What is counted, here and by the engine."""

    @base.operation("Tell numbers of the server, in Prometheus' text format", {200: ("Metrics",)})
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with everything that is counted; nothing of it names a user."""
        resp.content_type = metrics.CONTENT_TYPE
        resp.text = metrics.text([*self.room.metrics, *self._of_followers(), *self._of_jobs()])

    on_head = on_get

    def _of_followers(self) -> list[metrics.Metric]:
        doc = "Requests that follow output, read events or wait for an end."
        return [metrics.Reading("workerd_followers", doc, self.room.followers.count, kind="gauge")]

    def _of_jobs(self) -> list[metrics.Metric]:
        told = self.engine.statistics()
        states = {state.value: told.by_state.get(state.value, 0) for state in worker_core.State}
        ended = {
            state.value: told.ended.get(state.value, 0)
            for state in worker_core.State
            if state.final
        }
        return [
            metrics.Reading(
                "workerd_jobs", "Jobs that are kept, by state.", states, label="state", kind="gauge"
            ),
            metrics.Reading(
                "workerd_jobs_started_total", "Jobs started.", told.started, kind="counter"
            ),
            metrics.Reading(
                "workerd_jobs_ended_total",
                "Jobs that have ended, by outcome.",
                ended,
                label="outcome",
                kind="counter",
            ),
            metrics.Reading(
                "workerd_output_bytes",
                "Bytes that finished jobs take on the disk: outputs, inputs and specs.",
                told.output_bytes,
                kind="gauge",
            ),
        ]
