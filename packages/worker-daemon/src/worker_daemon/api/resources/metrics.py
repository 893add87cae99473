"""GET /metrics: metrics for Prometheus."""

from __future__ import annotations

import falcon
import worker_core

from worker_daemon.api import prometheus, resource


class Metrics(resource.Resource):
    """Metrics of the requests and of the engine."""

    @resource.operation(
        "Return the metrics of the server, in Prometheus' text format", {200: ("Metrics",)}
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with all metrics. None of them names a user."""
        resp.content_type = prometheus.CONTENT_TYPE
        resp.text = prometheus.text(
            [*self.services.metrics, *self._of_requests(), *self._of_jobs()]
        )

    on_head = on_get

    def _of_requests(self) -> list[prometheus.Metric]:
        doc = "Requests that follow output, read events or wait for an end."
        return [
            prometheus.Reading(
                "workerd_followers", doc, self.services.long_requests.count, kind="gauge"
            )
        ]

    def _of_jobs(self) -> list[prometheus.Metric]:
        counts = self.engine.statistics()
        states = {state.value: counts.by_state.get(state.value, 0) for state in worker_core.State}
        ended = {
            state.value: counts.ended.get(state.value, 0)
            for state in worker_core.State
            if state.final
        }
        return [
            prometheus.Reading(
                "workerd_jobs", "Jobs that are kept, by state.", states, label="state", kind="gauge"
            ),
            prometheus.Reading(
                "workerd_jobs_waiting",
                "Jobs that wait, by the first thing that keeps them from starting.",
                counts.waiting,
                label="gate",
                kind="gauge",
            ),
            prometheus.Reading(
                "workerd_jobs_started_total", "Jobs started.", counts.started, kind="counter"
            ),
            prometheus.Reading(
                "workerd_jobs_ended_total",
                "Jobs that have ended, by outcome.",
                ended,
                label="outcome",
                kind="counter",
            ),
            prometheus.Reading(
                "workerd_starts_hanging",
                "Starts that hang, for example on a file system that does not answer.",
                self.engine.hanging_starts(),
                kind="gauge",
            ),
            prometheus.Reading(
                "workerd_output_bytes",
                "Bytes that finished jobs take on the disk: outputs, inputs and specs.",
                counts.output_bytes,
                kind="gauge",
            ),
        ]
