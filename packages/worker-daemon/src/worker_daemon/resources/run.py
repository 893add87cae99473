"""POST /jobs/run: create a job."""

from __future__ import annotations

import falcon
import worker_core

from worker_daemon import audit, problems
from worker_daemon.resources import base

_LONGEST_KEY = 255


class Run(base.Resource):
    """Where jobs are created."""

    @base.operation(
        "Create a job",
        {201: "Brief"},
        body=worker_core.JobSpec,
        body_required=True,
        problems=("invalid_job", "idempotency_key_reused", "queue_full", "store_unavailable"),
        headers={
            "Idempotency-Key": "At most 255 characters. The same key with the same body answers"
            " with the same job, and starts nothing."
        },
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, spec: worker_core.JobSpec
    ) -> None:
        """Store the job for good, then answer; it has perhaps not started yet."""
        key = _idempotency_key(req)
        job = self.engine.submit(spec, req.context.user, idempotency_key=key)
        req.context.job_id = job.id
        audit.run(req, job)
        resp.location = f"/jobs/{job.id}"
        base.answer(resp, base.brief(job), 201)


def _idempotency_key(req: falcon.Request) -> str | None:
    key = req.get_header("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= _LONGEST_KEY:
        raise problems.Problem(
            "malformed_request", f"the Idempotency-Key must have 1 to {_LONGEST_KEY} characters"
        )
    return key
