"""One running job as the supervisor holds it, and what came of it when it has ended."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from worker_core.disk.jobdir import STREAMS, Cause, Exit, JobDir, Kill, Pid
from worker_core.linux import procfs
from worker_core.model import signals
from worker_core.supervisor import tree
from worker_core.supervisor.loop import Timer
from worker_core.wire import Message

log = logging.getLogger(__name__)


@dataclass
class Doom:
    """That a job which has not begun yet is to end, and as what it then ends."""

    cause: Cause
    reason: str | None
    signum: int = signal.SIGKILL  # what it gets if it begins all the same; likewise the next
    grace: float = 0.0


@dataclass
class RunningJob:
    """One job that was claimed and has not been recorded as ended."""

    dir: JobDir
    spec: dict[str, Any]
    pid: Pid | None = None
    foreign: bool = False  # not our child: what it leaves behind is not given to us
    pidfd: int | None = None  # of a foreign leader (exit_status.py)
    gone: bool = False  # a foreign leader that has ended: its pid may name another process
    kill: Kill | None = None
    doom: Doom | None = None
    early_signals: list[int] = field(default_factory=list)  # sent before it was known to have begun
    forked: int | None = None  # the leader's pid, from its fork on if that is told
    end: Exit | None = None
    unrecorded: str | None = None  # why its end could not be written the last time
    began: float = 0.0  # monotonic time, as the next one
    give_up: float = 0.0
    grace_until: float = 0.0  # for what a kill has reached beside the leader, which has ended
    announcement: Timer | None = None
    timeout: Timer | None = None
    kill_timer: Timer | None = None
    sweep_timer: Timer | None = None
    output_size: int = 0  # at the latest look (output_cap.py)
    looks_apart: int = 1  # every how many rounds its output is looked at

    @property
    def id(self) -> str:
        """The job's id."""
        return self.dir.job_id

    @functools.cached_property
    def mark(self) -> int:
        """What every process of the job carries (tree.py)."""
        return tree.mark(self.id)

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that have a spool file of their own."""
        return tuple(STREAMS) if self.spec.get("separate_stderr") else ("stdout",)

    @property
    def pid_namespace(self) -> bool:
        """Whether the job has a pid namespace, and so two processes of ours (namespaces.py)."""
        return bool(self.spec.get("isolation", {}).get("pid_namespace"))

    @property
    def leader(self) -> int | None:
        """The leader's pid while it is certain to name the leader."""
        certain = self.pid is not None and self.end is None and not self.gone
        return cast("Pid", self.pid).pid if certain else None


def outcome(status: int, kill: Kill | None, memory_limit: int | None) -> Exit:
    """Say why a leader ended, from its wait status and from what we had sent to it.

    A signal that we had sent and that ended it is ours. An exit code is ours only if the leader
    could survive what we sent (it catches, ignores or blocks it) and was alive when we sent it;
    otherwise the signal would have ended it, so it ended by itself before. `memory_limit` is given
    if the kernel says that it ended a process of the job for going over it.
    """
    code = os.waitstatus_to_exitcode(status)
    exit_code, signum = (code, None) if code >= 0 else (None, -code)
    if kill is not None and (kill.counts if signum is None else signum in kill.signalled):
        return Exit(kill.cause, exit_code, signum, kill.reason, 0.0)
    if memory_limit is not None and signum == signal.SIGKILL:
        reason = f"out of memory: it needed more than its limit of {memory_limit} bytes"
        return Exit("memory", None, signum, reason, 0.0)
    return Exit("own", exit_code, signum, signals.failure_reason(exit_code, signum), 0.0)


def unless_shut_down(end: Exit) -> Exit:
    """Return `end`, or that the job was lost if what ended it was the shutdown of the machine.

    That sends SIGTERM and then SIGKILL to everybody. What it ends is treated like what a power cut
    ends: the job has not failed.
    """
    by_signal = end.cause == "own" and end.signal in (signal.SIGTERM, signal.SIGKILL)
    if by_signal and procfs.shutting_down():
        return replace(end, cause="lost", signal=None, reason="the machine was shut down")
    return end


def noticed_late(end: Exit) -> Exit:
    """Return `end` with a reason that says that its time is not that of the end itself."""
    note = "it ended while no supervisor was running, before the time recorded here"
    return replace(end, reason=note if end.reason is None else f"{end.reason}; {note}")


def lost(why: str, at: float) -> Exit:
    """Return the end of a job whose end nobody saw."""
    return Exit("lost", None, None, f"the end could not be observed: {why}", at)


def started(job: RunningJob) -> Message:
    """Return the message that a job runs."""
    pid = cast("Pid", job.pid)
    told = {"pid": pid.pid, "at": pid.started_at, "enforced": pid.enforced}
    return {"event": "started", "id": job.id, **told}


def exited(job_id: str, end: Exit) -> Message:
    """Return the message that a job has ended."""
    return {"event": "exited", "id": job_id, "exit": vars(end)}


def unrecorded(job: RunningJob) -> Message:
    """Return the message that a job's process has ended, and why that cannot be recorded yet."""
    return {"event": "unrecorded", "id": job.id, "why": job.unrecorded}


@contextlib.contextmanager
def logged(job: RunningJob, what: str) -> Iterator[None]:
    """Let a file of the job that cannot be written end nothing: log it and go on."""
    try:
        yield
    except OSError as error:
        log.error("job %s: %s: %s", job.id, what, error)
