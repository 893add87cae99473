"""GET /jobs/{job_id}/status: the state and outcome of a job, now or once it has ended."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import falcon
import worker_core

from worker_daemon.api import access, params, resource

LONGEST_WAIT = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatusQuery(access.OwnerQuery):
    """How long to wait."""

    wait: Annotated[
        float,
        params.Field(
            params.Number(0, LONGEST_WAIT),
            "Answer once the job has ended, or after this many seconds.",
        ),
    ] = 0.0


class Status(resource.Resource):
    """A job's state and outcome."""

    @resource.operation(
        "Return the state and the outcome of a job",
        {200: ("Status",)},
        query=StatusQuery,
        problems=("too_many_followers", "draining"),
    )
    def on_get(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        job: worker_core.Job,
        query: StatusQuery,
    ) -> None:
        """Answer at once, or when the wait is over."""
        job = self.services.long_requests.wait(self.engine, job, req, query.wait)
        resource.answer(resp, job.status_view())

    on_head = on_get
