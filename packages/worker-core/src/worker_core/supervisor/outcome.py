"""What the end of a leader means: its outcome, and what the job used."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

from worker_core.disk.jobdir import Exit, Kill
from worker_core.linux import procfs
from worker_core.model import signals
from worker_core.model.state import UNOBSERVED, Cause
from worker_core.model.usage import Usage
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.running_job import RunningJob


def outcome(status: int, kill: Kill | None, memory_limit: int | None) -> Exit:
    """Return why a leader ended, from its wait status and from the signals that we sent to it.

    A leader that ended by a signal of ours was killed. So was a leader that could survive our
    signal (it catches, ignores or blocks it) and was alive when we sent it, however it ended
    afterwards: by an exit code, or by a signal of its own, as `trap 'kill -9 $$' TERM` does. Any
    other leader would have ended by our signal, so it ended by itself before.

    `memory_limit` is given if the kernel reports that it ended a process of the job for using more.
    """
    code = os.waitstatus_to_exitcode(status)
    exit_code, signum = (code, None) if code >= 0 else (None, -code)
    if kill is not None and (kill.counts or signum in kill.signalled):
        return Exit(kill.cause, exit_code, signum, kill.reason, 0.0)
    if memory_limit is not None and signum == signal.SIGKILL:
        reason = f"out of memory: it needed more than its limit of {memory_limit} bytes"
        return Exit(Cause.MEMORY, None, signum, reason, 0.0)
    return Exit(Cause.OWN, exit_code, signum, signals.failure_reason(exit_code, signum), 0.0)


def unless_shut_down(end: Exit) -> Exit:
    """Return `end`, or that the job is lost if the shutdown of the machine ended it.

    A shutdown sends SIGTERM and then SIGKILL to all processes. A job that ends by it has not
    failed; it is treated like a job that a power cut ends.
    """
    by_signal = end.cause is Cause.OWN and end.signal in (signal.SIGTERM, signal.SIGKILL)
    if by_signal and procfs.shutting_down():
        return replace(end, cause=Cause.LOST, signal=None, reason="the machine was shut down")
    return end


def noticed_late(end: Exit) -> Exit:
    """Return `end` with the additional reason that the job ended before the recorded time."""
    note = "it ended while no supervisor was running, before the time recorded here"
    return replace(end, reason=note if end.reason is None else f"{end.reason}; {note}")


def lost(why: str, at: float) -> Exit:
    """Return the end of a job whose end was not observed."""
    return Exit(Cause.LOST, None, None, f"the end could not be observed: {why}; {UNOBSERVED}", at)


def exceeded_memory_limit(job: RunningJob, groups: Cgroups | None) -> int | None:
    """Return the job's memory limit if the kernel ended a process of the job because of it."""
    limit: int | None = job.spec.get("limits", {}).get("memory")
    if limit is None or groups is None:
        return None
    return limit if groups.read(job.id, "memory.events").get("oom_kill") else None


def used(job: RunningJob, groups: Cgroups | None, measured: dict[str, Any]) -> Usage:
    """Return what a job used.

    `measured` is for the leader only. A control group counts the whole tree.
    """
    counted = {} if groups is None else groups.usage(job.id, pid_namespace=job.pid_namespace)
    return Usage(**measured | counted)
