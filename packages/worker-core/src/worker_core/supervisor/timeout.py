"""A job's timeout: the timer that ends the job, and the reason that it then gives."""

from __future__ import annotations

from collections.abc import Callable

from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import RunningJob


def arm(job: RunningJob, loop: Loop, end: Callable[[RunningJob, str], None]) -> None:
    """Have `end(job, reason)` called when the job's time is over; do nothing if it has no timeout.

    The time is counted from the job's start by a clock that nobody can set.
    """
    limit = job.spec.get("timeout")
    if limit is not None:
        job.timeout = loop.call_at(job.began + limit, lambda: end(job, reason(limit)))


def reason(limit: float) -> str:
    """Return the reason of a job whose time is over."""
    return f"timed out after {limit:g} second{'s' * (limit != 1)}"
