"""PUT /jobs/{job_id}/signal: send a signal that is not meant to end the job."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import falcon
import worker_core

from worker_daemon.api import audit, params, resource


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalBody:
    """The signal."""

    signal: Annotated[int, params.Field(params.Signal(), "The name or the number of a signal.")]


class Signal(resource.Resource):
    """Sends a signal to every process of a job."""

    @resource.operation(
        "Send a signal to every process of a job",
        {200: ("Brief",)},
        body=SignalBody,
        body_required=True,
        problems=("job_not_running", "supervisor_unavailable"),
    )
    def on_put(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        job: worker_core.Job,
        body: SignalBody,
    ) -> None:
        """Answer once the signal was sent. What the job does then is not known yet.

        A job that ends by it has ended by itself, and is not `killed`.
        """
        audit.signal(req, job, body.signal)
        resource.answer(resp, resource.brief(self.engine.signal(job.id, body.signal)))
