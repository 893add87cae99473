"""Job: the frozen record of one job, how an event changes it, and its public view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker_core.model import state
from worker_core.model.state import Event, State

if TYPE_CHECKING:
    from worker_core.model.spec import JobSpec


_ENDED = {
    State.SKIPPED: "been skipped",
    State.FAILED: "failed",
    State.KILLED: "been killed",
    State.TIMED_OUT: "timed out",
    State.OUT_OF_MEMORY: "run out of memory",
    State.LOST: "been lost",
}
_SAID = ("killed", "skipped", "timed out")  # reasons that say it already


@dataclass(frozen=True)
class Usage:
    """What a job used: its whole tree where a cgroup counts it.

    Elsewhere what wait4(2) tells: of the leader, and of the children that it waited for.
    """

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    max_rss_bytes: int | None
    """None where it is not known: the kernel counts the memory of the supervisor, of which a job is
    a child, as a floor, so that a peak below that floor cannot be told."""
    read_bytes: int | None = None
    """Of disks, by the whole tree; this and what follows only where a cgroup counts it."""
    written_bytes: int | None = None
    max_processes: int | None = None
    """Processes and threads at a time. It may be 2 also for a single one, where the supervisor went
    through the group to start it: when many jobs with neither limits nor a box are started."""


@dataclass(frozen=True)
class Change:
    """An event together with what was observed; None where the event says nothing of it."""

    event: Event
    at: float
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    by: str | None = None
    kill_signal: int | None = None
    kill_grace: float | None = None
    usage: Usage | None = None
    enforced: Mapping[str, str | None] = field(default_factory=dict)
    started_at: float | None = None
    """When the job began, if its end is told: of a short one, nothing was told before."""


@dataclass(frozen=True)
class Job:
    """The record of one job. Times are Unix seconds (UTC); `signal` is a Linux signal number.

    What is observed (`state`), what is wanted (`kill_by`: who asked to end it) and what came of it
    (`exit_code`, `signal`, `reason`, `killed_by`) are separate: a job that somebody asked to end
    and that ended by itself first keeps its own outcome.
    """

    id: str
    owner: str
    spec: JobSpec
    state: State
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    killed_by: str | None = None
    usage: Usage | None = None
    kill_by: str | None = None
    kill_reason: str | None = None
    kill_signal: int | None = None
    """The signal that the latest who asked wants sent first; None is the stop signal of `spec`."""
    kill_grace: float | None = None
    """The seconds from it to SIGKILL; None is the grace of `spec`."""
    run_as: str | None = None
    """The Unix account; None is that of the supervisor."""
    enforced: Mapping[str, str | None] = field(default_factory=dict)
    """For each limit what enforces it: "cgroup", "rlimit" or None for nothing."""
    duration: float | None = None
    """Seconds that it has run up to now, if the engine has measured that; not a difference of the
    stamps above, because the clock that they are read from can be set."""
    version: int = 0
    """Grows with every change of any job in the store; what `Engine.events` resumes from."""

    def replaced(self, **changed: Any) -> Job:
        """Return the record with other values of some fields, as `dataclasses.replace` would.

        That takes five times as long, and a short job is changed half a dozen times.
        """
        job = object.__new__(Job)
        vars(job).update(vars(self))
        vars(job).update(changed)
        return job

    def after(self, change: Change) -> Job:
        """Return the record after a change; raise IllegalTransition where the table has none."""
        new = state.advance(self.state, change.event)
        match change.event:
            case Event.DISPATCH:
                return self.replaced(state=new)
            case Event.STARTED:
                known = {"pid": change.pid, "enforced": change.enforced}
                return self.replaced(state=new, started_at=change.at, **known)
            case Event.KILL:
                asked = self._asked(change)
                return asked._ended(new, change) if new.final else asked.replaced(state=new)
            case _:
                return self._ended(new, change)

    def _asked(self, change: Change) -> Job:
        """The first who asked is the one who killed it; who asks again only hastens it."""
        asked = self.replaced(kill_signal=change.kill_signal, kill_grace=change.kill_grace)
        if self.kill_by is not None:
            return asked
        return asked.replaced(kill_by=change.by or "unknown", kill_reason=change.reason)

    def _ended(self, new: State, change: Change) -> Job:
        # Nobody's wish is recorded if the database could not take it before the end came.
        killed_by = (self.kill_by or "unknown") if new is State.KILLED else None
        reason = change.reason
        if killed_by is not None:
            reason = f"killed by {killed_by}{f': {self.kill_reason}' if self.kill_reason else ''}"
        began = change if self.started_at is None and change.started_at is not None else self
        return self.replaced(
            state=new,
            started_at=began.started_at,
            pid=began.pid,
            enforced=began.enforced,
            ended_at=change.at,
            exit_code=change.exit_code,
            signal=change.signal,
            reason=reason,
            killed_by=killed_by,
            usage=change.usage,
        )

    def summary(self) -> str:
        """Return how it ended, as in "completed with exit code 0" or "been killed by alice".

        It ends a sentence that begins with "the job has". Of one that has not ended: its state.
        """
        if self.state is State.COMPLETED:
            return "completed with exit code 0"
        if not self.state.final:
            return str(self.state.value)
        ended = _ENDED[self.state]
        reason = self.reason or ""
        if reason.startswith(_SAID):
            return reason if self.state is State.TIMED_OUT else f"been {reason}"
        return f"{ended}: {reason}" if reason else ended

    def status_view(self) -> dict[str, Any]:
        """Return the fields of `GET /jobs/{id}/status`, ready for JSON."""
        return {
            "id": self.id,
            "status": self.state.value,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "reason": self.reason,
            "killed_by": self.killed_by,
            "created_at": stamp(self.created_at),
            "started_at": stamp(self.started_at),
            "ended_at": stamp(self.ended_at),
            "duration": self.duration if self.usage is None else self.usage.wall_seconds,
            "usage": None if self.usage is None else dict(vars(self.usage)),
        }

    def record_view(self) -> dict[str, Any]:
        """Return the whole record, spec included, ready for JSON."""
        spec = self.spec.to_dict()
        more = {"owner": self.owner, "run_as": self.run_as, "pid": self.pid, "spec": spec}
        return self.status_view() | more | {"enforced": dict(self.enforced)}


def stamp(at: float | None) -> str | None:
    """Return a Unix time as RFC 3339 in UTC with milliseconds, as in 2026-01-31T09:00:00.000Z."""
    if at is None:
        return None
    moment = datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
