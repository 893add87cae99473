"""Which jobs may start, and which never can, once another one has started or ended.

Pure: the jobs that wait for one are looked up by a function of the caller, who runs this in the
transaction that records the start or the end.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from worker_core.model.state import State
from worker_core.model.waiting.after import When

_NOT_COMPLETED = {State.FAILED, State.TIMED_OUT, State.OUT_OF_MEMORY, State.LOST}
_CAME_TO = {
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.SKIPPED: "was skipped",
    State.KILLED: "was killed",
    State.TIMED_OUT: "timed out",
    State.OUT_OF_MEMORY: "ran out of memory",
    State.LOST: "was lost",
}
_WANTED = {
    When.SUCCESS: "to complete",
    When.FAILURE: "to fail",
    When.END: "to end",
    When.START: "to start",
}


@dataclass(frozen=True)
class Parent:
    """The state of a job that other jobs wait for.

    `started` is true for a job that was killed while it ran, and false for one that was killed
    while it waited. A job whose command could not be executed counts as started.
    """

    id: str
    state: State
    started: bool = False
    exit_code: int | None = None
    signal: int | None = None
    words: str | None = None
    """How it ended, if its state does not say that."""

    def came_to(self) -> str:
        """Return how it ended, as in "failed (exit code 2)"."""
        if self.words is not None:
            return self.words
        words = _CAME_TO.get(self.state, self.state.value)
        if self.state is State.KILLED and not self.started:
            return f"{words} before it started"
        if self.state is State.FAILED and self.exit_code is not None:
            return f"{words} (exit code {self.exit_code})"
        if self.state is State.FAILED and self.signal is not None:
            return f"{words} (signal {self.signal})"
        return words


class Verdict(enum.Enum):
    """Whether a dependency lets its job start: now, perhaps later, or never."""

    OPEN = enum.auto()
    WAITS = enum.auto()
    NEVER = enum.auto()


@dataclass(frozen=True)
class Edge:
    """One dependency: `child` waits until `parent` has reached `when`."""

    child: str
    parent: str
    when: When


@dataclass
class Consequences:
    """What follows from the start or the end of a job."""

    opened: list[Edge] = field(default_factory=list)
    """Dependencies that are fulfilled."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Jobs that can never start, each with the reason as a sentence. A job comes after the one that
    it depends on."""


def verdict(when: When, parent: Parent) -> Verdict:
    """Return whether a dependency is fulfilled, may still be, or never will be."""
    if _fulfilled(when, parent):
        return Verdict.OPEN
    return Verdict.NEVER if parent.state.final else Verdict.WAITS


def consequences(parent: Parent, waiting_for: Callable[[str], Iterable[Edge]]) -> Consequences:
    """Return what follows now that a job has started or ended.

    `waiting_for` returns the unfulfilled dependencies on a job. A job that is skipped has ended, so
    the jobs that wait for it are looked at as well. If an array is skipped, so are its elements;
    `waiting_for` then includes the dependencies on the elements.
    """
    found = Consequences()
    todo = deque([parent])
    while todo:
        parent = todo.popleft()
        for edge in waiting_for(parent.id):
            if edge.child in found.skipped:
                continue
            match verdict(edge.when, parent):
                case Verdict.OPEN:
                    found.opened.append(edge)
                case Verdict.NEVER:
                    found.skipped[edge.child] = why_skipped(parent)
                    todo.append(Parent(edge.child, State.SKIPPED))
                case Verdict.WAITS:
                    pass
    return found


def why_skipped(parent: Parent) -> str:
    """Return the reason why a job is skipped; `parent` is the job that it waited for."""
    return f"skipped: job {short(parent.id)} {parent.came_to()}"


def why_waiting(waits: Iterable[tuple[str, When]]) -> str:
    """Return the reason why a job waits, from the jobs that it waits for and the state it needs."""
    several = list(waits)
    shown = [f"job {short(parent)} {_WANTED[when]}" for parent, when in several[:3]]
    more = f" and {len(several) - 3} more" if len(several) > 3 else ""
    return f"waiting for {', '.join(shown)}{more}"


def short(job_id: str) -> str:
    """Return the short form of an id for a sentence: its first characters."""
    base, colon, index = job_id.partition(":")
    return (f"{base[:4]}…" if len(base) > 8 else base) + colon + index


def _fulfilled(when: When, parent: Parent) -> bool:
    match when:
        case When.START:
            return parent.started
        case When.END:
            return parent.state.final
        case When.SUCCESS:
            return parent.state is State.COMPLETED
        case When.FAILURE:
            killed = parent.state is State.KILLED and parent.started
            return killed or parent.state in _NOT_COMPLETED
