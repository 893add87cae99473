"""The audit log: which user started, ended or removed which job, and from which address.

It contains the argv of a job, but never its environment or input.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import falcon
import worker_core

_log = logging.getLogger("worker_daemon.audit")


def run(req: falcon.Request, job: worker_core.Job, spec: worker_core.JobSpec) -> None:
    """Log that a job was created, or requested again with the same idempotency key."""
    _log_action("run", req, job, argv=[spec.command, *spec.args], cwd=spec.cwd)


def kill(req: falcon.Request, job: worker_core.Job, reason: str | None) -> None:
    """Log a request to kill a job."""
    _log_action("kill", req, job, owner=job.owner, reason=reason)


def signal(req: falcon.Request, job: worker_core.Job, number: int) -> None:
    """Log that a signal was sent to a job."""
    _log_action("signal", req, job, owner=job.owner, signal=number)


def update(req: falcon.Request, job: worker_core.Job, changes: Mapping[str, Any]) -> None:
    """Log that a user has changed what a job waits for."""
    _log_action("update", req, job, owner=job.owner, changes=dict(changes))


def remove(req: falcon.Request, job: worker_core.Job) -> None:
    """Log that a job's record and output were removed."""
    _log_action("remove", req, job, owner=job.owner)


def _log_action(action: str, req: falcon.Request, job: worker_core.Job, **more: Any) -> None:
    fields = {
        "request_id": req.context.request_id,
        "user": req.context.user,
        "address": req.remote_addr,
        "job": job.id,
    }
    _log.info(action, extra=fields | more)
