"""POST /jobs/run: create a job."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import falcon
import worker_core

from worker_daemon import problems
from worker_daemon.api import audit, params, resource


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunHeaders:
    """The header that makes it safe to send a request again."""

    idempotency_key: Annotated[
        str | None,
        params.Field(
            params.Text(),
            "A request with the same key and body again returns the same job, and starts nothing.",
        ),
    ] = None


class Run(resource.Resource):
    """Creates jobs."""

    @resource.operation(
        "Create a job",
        {201: ("Brief",)},
        body=worker_core.JobSpec,
        body_required=True,
        problems=(
            "invalid_job",
            "idempotency_key_reused",
            "queue_full",
            "server_busy",
            "too_many_followers",
            "store_unavailable",
            "draining",
        ),
        headers=RunHeaders,
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        headers: RunHeaders,
        spec: worker_core.JobSpec,
    ) -> None:
        """Answer once the job is stored durably. It may not have started yet."""
        if self.services.draining.is_set():
            raise problems.draining()
        user = req.context.user
        job = self.engine.submit(
            self.services.limits.bounded(spec, user, self.services.output_limit),
            req.context.owner_of(user),
            idempotency_key=headers.idempotency_key,
            run_as=self.services.run_as(user),
        )
        req.context.job_id = job.id
        audit.run(req, job, spec)
        resp.location = f"/jobs/{job.id}"
        resource.answer(resp, resource.brief(job), 201)
