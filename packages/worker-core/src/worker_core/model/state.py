"""The state machine of a job: states, events, and the one table that joins them.

Nothing else in the project assigns a state. The API's enum, the documentation's diagram and the
tests are made from `TRANSITIONS`.
"""

from __future__ import annotations

import enum

from worker_core.model.errors import WorkerError


class State(enum.Enum):
    """What is observed of a job; the value is the word that the API and the command line use."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether the job has ended and its record will not change any more."""
        return self in FINAL


FINAL = frozenset(
    {
        State.COMPLETED,
        State.SKIPPED,
        State.FAILED,
        State.KILLED,
        State.TIMED_OUT,
        State.OUT_OF_MEMORY,
        State.LOST,
    }
)


class Event(enum.Enum):
    """What can happen to a job. The END_* events are decided where the process is reaped."""

    DISPATCH = "a slot was given to it"
    STARTED = "its process runs"
    NOT_STARTED = "it could not be started"
    SKIP = "what it waits for can never come true"
    KILL = "somebody asked to end it"
    END_SUCCESS = "it ended with exit code 0"
    END_FAILURE = "it ended with another exit code or a signal that we did not send"
    END_KILLED = "it ended because somebody asked"
    END_TIMEOUT = "it ended because its time was up"
    END_MEMORY = "the kernel ended it for memory"
    LOSE = "its end could not be observed"


class Refused(enum.Enum):
    """Why a pair of state and event changes nothing."""

    REPEATED = "already known; reporting it again changes nothing"
    ENDED = "the job has ended"
    IMPOSSIBLE = "cannot happen in this state"


class IllegalTransition(WorkerError):
    """An event that the job's state does not allow."""

    def __init__(self, state: State, event: Event, why: Refused) -> None:
        self.state, self.event, self.why = state, event, why
        super().__init__(f"{event.name} in state {state.value}: {why.value}")


def _row(
    queued: State | Refused, running: State | Refused, stopping: State | Refused, ended: Refused
) -> dict[State, State | Refused]:
    live = {State.QUEUED: queued, State.RUNNING: running, State.STOPPING: stopping}
    return live | dict.fromkeys(FINAL, ended)


_NO, _AGAIN, _OVER = Refused.IMPOSSIBLE, Refused.REPEATED, Refused.ENDED

# An observation that comes twice (a restart asks again for what was told before) is REPEATED; a
# wish that comes too late is ENDED. Both leave the record alone, and only the second is an answer.
_TABLE: dict[Event, dict[State, State | Refused]] = {
    # event               queued         running              stopping             any final state
    Event.DISPATCH:    _row(State.RUNNING, _AGAIN,              _NO,                 _OVER),
    Event.STARTED:     _row(_NO,           State.RUNNING,       State.STOPPING,      _AGAIN),
    Event.NOT_STARTED: _row(_NO,           State.FAILED,        State.FAILED,        _AGAIN),
    Event.SKIP:        _row(State.SKIPPED, _NO,                 _NO,                 _AGAIN),
    Event.KILL:        _row(State.KILLED,  State.STOPPING,      State.STOPPING,      _OVER),
    Event.END_SUCCESS: _row(_NO,           State.COMPLETED,     State.COMPLETED,     _AGAIN),
    Event.END_FAILURE: _row(_NO,           State.FAILED,        State.FAILED,        _AGAIN),
    Event.END_KILLED:  _row(_NO,           State.KILLED,        State.KILLED,        _AGAIN),
    Event.END_TIMEOUT: _row(_NO,           State.TIMED_OUT,     State.TIMED_OUT,     _AGAIN),
    Event.END_MEMORY:  _row(_NO,           State.OUT_OF_MEMORY, State.OUT_OF_MEMORY, _AGAIN),
    Event.LOSE:        _row(_NO,           State.LOST,          State.LOST,          _AGAIN),
}  # fmt: skip

TRANSITIONS: dict[tuple[State, Event], State | Refused] = {
    (state, event): answer for event, row in _TABLE.items() for state, answer in row.items()
}


def advance(state: State, event: Event) -> State:
    """Return the state after `event`; raise IllegalTransition, naming both, where there is none."""
    answer = TRANSITIONS[state, event]
    if isinstance(answer, Refused):
        raise IllegalTransition(state, event, answer)
    return answer
