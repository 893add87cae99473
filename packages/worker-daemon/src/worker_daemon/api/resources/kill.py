"""PUT /jobs/{job_id}/kill: kill a job."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import falcon
import worker_core

from worker_daemon import problems
from worker_daemon.api import access, audit, params, resource
from worker_daemon.api.resources import status


@dataclasses.dataclass(frozen=True, kw_only=True)
class KillQuery(access.OwnerQuery):
    """How long to wait."""

    wait: Annotated[
        float,
        params.Field(
            params.Number(0, status.LONGEST_WAIT),
            "Answer once the job has ended, or after this many seconds.",
        ),
    ] = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class KillBody:
    """How to kill the job; without a body, as its spec says."""

    signal: Annotated[
        int | None, params.Field(params.Signal(), "The stop signal, instead of the job's own.")
    ] = None
    grace: Annotated[
        float | None,
        params.Field(
            params.Number(0, 86400 * 365), "Seconds until SIGKILL, instead of the job's stop_grace."
        ),
    ] = None
    now: Annotated[bool, params.Field(params.Flag(), "SIGKILL at once.")] = False
    reason: Annotated[
        str | None, params.Field(params.Text(most=1000), "Why, for the job's record.")
    ] = None


class Kill(resource.Resource):
    """Kills a job."""

    @resource.operation(
        "Kill a job and every process that it started",
        {200: ("Brief",), 202: ("Stopping",)},
        query=KillQuery,
        body=KillBody,
        problems=("job_not_running", "supervisor_unavailable"),
    )
    def on_put(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        job: worker_core.Job,
        query: KillQuery,
        body: KillBody,
    ) -> None:
        """Answer 200 once the job has ended, 202 if it has not, 409 if it ended by itself."""
        if body.grace is not None:
            faults = self.services.limits.of(req.context.user).check("stop_grace", body.grace)
            if faults:
                raise problems.invalid([dataclasses.replace(faults[0], field="grace")])
        audit.kill(req, job, body.reason)
        request = worker_core.KillRequest.make(by=req.context.user, **dataclasses.asdict(body))
        job = self.engine.request_kill(job.id, request)
        try:
            job = self.services.long_requests.wait(self.engine, job, req, query.wait)
        except problems.Problem as problem:
            # A kill is never refused because there is no place to wait in.
            if problem.code not in ("too_many_followers", "draining"):
                raise
        job = self.engine.kill_outcome(job)
        why = {"reason": job.reason} if job.reason and not job.state.final else {}
        resource.answer(resp, resource.brief(job) | why, 200 if job.state.final else 202)
