"""The messages by which engines learn what happens to a job."""

from __future__ import annotations

from typing import cast

from worker_core.disk.jobdir import Exit, Pid
from worker_core.supervisor.running_job import RunningJob
from worker_core.wire import Message


def started(job: RunningJob) -> Message:
    """Return the message that a job runs."""
    pid = cast("Pid", job.pid)
    leader = {"pid": pid.pid, "at": pid.started_at, "enforced": pid.enforced}
    return {"event": "started", "id": job.id, **leader}


def exited(job_id: str, end: Exit) -> Message:
    """Return the message that a job has ended."""
    return {"event": "exited", "id": job_id, "exit": end.to_dict()}


def unrecorded(job: RunningJob) -> Message:
    """Return the message that a leader has ended, and why its end cannot be recorded yet."""
    return {"event": "unrecorded", "id": job.id, "why": job.unrecorded}
