"""Job: the frozen record of one job, how an event changes it, and its public view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from worker_core.model import state
from worker_core.model.kill import KillRequest
from worker_core.model.state import Cause, Event, State
from worker_core.model.usage import Usage
from worker_core.model.waiting.waits import Waits

if TYPE_CHECKING:
    from worker_core.model.spec import JobSpec
    from worker_core.queue.gates import Closed


_ENDED = {
    State.SKIPPED: "been skipped",
    State.FAILED: "failed",
    State.KILLED: "been killed",
    State.TIMED_OUT: "timed out",
    State.OUT_OF_MEMORY: "run out of memory",
    State.LOST: "been lost",
}
UNKNOWN = "unknown"  # who killed a job, if the request gave no name
_SAID = ("killed", "skipped", "timed out")  # reasons that already contain the verb


@dataclass(frozen=True)
class Change:
    """An event together with what was observed; None for what does not belong to the event."""

    event: Event
    at: float
    cause: Cause | None = None
    """Why the job ended; only for Event.END."""
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    kill: KillRequest | None = None
    """Only for Event.KILL."""
    usage: Usage | None = None
    enforced: Mapping[str, str | None] = field(default_factory=dict)
    started_at: float | None = None
    """When the job started, for Event.END: the start of a short job is not reported before."""


@dataclass(frozen=True)
class Job:
    """The record of one job. Times are Unix seconds (UTC); `signal` is a Linux signal number.

    What is observed (`state`), what is wanted (`kill`: that the job has to end) and the outcome
    (`exit_code`, `signal`, `reason`, `killed_by`) are separate: a job that ended by itself before
    a kill reached it keeps its own outcome.

    This is the only declaration of a record's fields: the columns of the database follow from it.
    """

    FIXED: ClassVar[frozenset[str]] = frozenset({"id", "owner", "spec", "created_at", "run_as"})
    """Fields that never change."""
    COMPUTED: ClassVar[frozenset[str]] = frozenset({"duration", "waiting"})
    """Fields that are not stored: the engine computes them for each record that it returns."""

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
    kill: KillRequest | None = None
    """The request to end the job: author and reason of the first one, signal and grace of all."""
    run_as: str | None = None
    """The Unix account; None is that of the supervisor."""
    enforced: Mapping[str, str | None] = field(default_factory=dict)
    """For each limit what enforces it: "cgroup", "rlimit" or None for nothing."""
    duration: float | None = None
    """Seconds that it has run so far, if the engine has measured that. It is not the difference of
    the times above, because the system clock may have been set in between."""
    waits: Waits | None = None
    """The changes of the owner while it waited; None: as in `spec`. See `let_wait`."""
    waiting: Sequence[Closed] = ()
    """Everything that keeps a waiting job from starting now."""
    version: int = 0
    """Grows with each change of any job in the store; `Engine.events` can resume from it."""

    @property
    def let_wait(self) -> Waits:
        """What its owner lets it wait for."""
        if self.waits is not None:
            return self.waits
        return Waits(self.spec.priority, self.spec.hold, self.spec.start_after)

    def replaced(self, **changed: Any) -> Job:
        """Return a copy with other values for some fields.

        `dataclasses.replace` does the same but takes five times as long, and even a short job is
        changed half a dozen times.
        """
        job = object.__new__(Job)
        vars(job).update(vars(self))
        vars(job).update(changed)
        return job

    def after(self, change: Change) -> Job:
        """Return the record after a change; raise IllegalTransition where the table has none."""
        cause = change.cause
        ends_as = None if cause is None else state.final_state(cause, change.exit_code)
        new = state.advance(self.state, change.event, ends_as)
        if change.event is Event.STARTED:
            known = {"pid": change.pid, "enforced": change.enforced}
            return self.replaced(state=new, started_at=change.at, **known)
        job = self
        if change.event is Event.KILL:
            job = self._with_kill(change.kill or KillRequest())
        return job._ended(new, change) if new.final else job.replaced(state=new)

    def _with_kill(self, request: KillRequest) -> Job:
        """Return the record with a kill; a second kill can only hasten the end."""
        if self.kill is None:
            return self.replaced(kill=replace(request, by=request.by or UNKNOWN))
        return self.replaced(kill=self.kill.followed_by(request, self.spec.stop_grace))

    def _ended(self, new: State, change: Change) -> Job:
        killed_by, reason = None, change.reason
        if new is State.KILLED:
            # The kill is not in the record if the database could not take it before the end came.
            kill = self.kill or KillRequest(by=UNKNOWN)
            killed_by = kill.by
            reason = f"killed by {killed_by}{f': {kill.reason}' if kill.reason else ''}"
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
        """Return how the job ended, as in "completed with exit code 0" or "been killed by alice".

        The text completes a sentence that begins with "the job has". For a job that has not ended
        it is the state.
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
            "waiting": [gate.to_dict() for gate in self.waiting],
        }

    def record_view(self) -> dict[str, Any]:
        """Return the whole record, spec included, ready for JSON."""
        spec = self.spec.to_dict()
        more = {"owner": self.owner, "run_as": self.run_as, "pid": self.pid, "spec": spec}
        waits = self.let_wait
        more |= {"priority": waits.priority, "hold": waits.hold}
        more |= {"start_after": stamp(waits.start_after), "enforced": dict(self.enforced)}
        return self.status_view() | more


def stamp(at: float | None) -> str | None:
    """Return a Unix time as RFC 3339 in UTC with milliseconds, as in 2026-01-31T09:00:00.000Z."""
    if at is None:
        return None
    moment = datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
