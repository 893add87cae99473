"""Translates between a job's record and what an executor is sent and reports."""

from __future__ import annotations

from typing import Any

from worker_core.disk.jobdir import Exit, JobDir
from worker_core.model import signals
from worker_core.model.job import Change, Job
from worker_core.model.kill import KillRequest
from worker_core.model.state import Event
from worker_core.settings import EngineSettings


def end_change(end: Exit) -> Change:
    """Return the change of the record that the end of a job means."""
    return Change(
        Event.END,
        end.ended_at,
        end.cause,
        exit_code=end.exit_code,
        signal=end.signal,
        reason=end.reason,
        usage=end.usage,
        pid=end.pid,
        started_at=end.started_at,
        enforced=end.enforced,
    )


def kill_demand(job: Job) -> tuple[int, float]:
    """Return the signal that a job to be killed gets first, and the seconds until SIGKILL."""
    kill = job.kill or KillRequest()
    signum = signals.number(job.spec.stop_signal) if kill.signal is None else kill.signal
    return signum, job.spec.stop_grace if kill.grace is None else kill.grace


def start_message(state_dir: str, job: Job, settings: EngineSettings) -> dict[str, Any]:
    """Return what an executor needs to start a job: its spec without name and labels."""
    directory = JobDir(state_dir, job.id)
    message = directory.start_message(job.spec.to_dict(), job.owner, job.run_as)
    if job.spec.isolation.read_only and settings.hidden_paths:
        message["hidden"] = list(settings.hidden_paths)
    return message
