"""PUT /jobs/{id}/signal: send a signal, without the wish to end the job."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import falcon
import worker_core

from worker_daemon.api import audit, params, resource


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalBody:
    """What to send."""

    signal: Annotated[int, params.Field(params.Signal(), "A signal's name or number.")]


class Signal(resource.Resource):
    """Where a signal is sent to everything that a job has started."""

    @resource.operation(
        "Send a signal to a job, without the wish to end it",
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
        """Answer once the signal was sent; what the job makes of it is not known yet."""
        audit.signal(req, job, body.signal)
        resource.answer(resp, resource.brief(self.engine.signal(job.id, body.signal)))
