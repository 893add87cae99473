"""The audit log: who started or ended what, and from where.

It names the argv of a job, and never its environment or its input.
"""

from __future__ import annotations

import logging
from typing import Any

import falcon
import worker_core

_log = logging.getLogger(__name__)


def run(req: falcon.Request, job: worker_core.Job, spec: worker_core.JobSpec) -> None:
    """Note that a job was created, or asked for again with its idempotency key."""
    _note("run", req, job, argv=[spec.command, *spec.args], cwd=spec.cwd)


def kill(req: falcon.Request, job: worker_core.Job, reason: str | None) -> None:
    """Note that somebody asked to end a job."""
    _note("kill", req, job, owner=job.owner, reason=reason)


def signal(req: falcon.Request, job: worker_core.Job, number: int) -> None:
    """Note that a signal was sent to a job."""
    _note("signal", req, job, owner=job.owner, signal=number)


def remove(req: falcon.Request, job: worker_core.Job) -> None:
    """Note that a job's record and output were removed."""
    _note("remove", req, job, owner=job.owner)


def _note(what: str, req: falcon.Request, job: worker_core.Job, **more: Any) -> None:
    told = {
        "request_id": req.context.request_id,
        "user": req.context.user,
        "address": req.remote_addr,
        "job": job.id,
    }
    _log.info(what, extra=told | more)
