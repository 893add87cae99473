"""The state machine of a job: states, events, and the one table of transitions.

Nothing else in the project assigns a state. The API's enum, the documentation's diagram and the
tests are made from `TRANSITIONS`.
"""

from __future__ import annotations

import enum

from worker_core.model.errors import WorkerError


class State(enum.Enum):
    """The observed state of a job. The value is the word in the API and on the command line."""

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

    # Enum has a function in Python for this. Tables are looked up by state many times for each job.
    __hash__ = object.__hash__

    @property
    def final(self) -> bool:
        """Whether the job has ended. Then its record does not change any more."""
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


class Cause(enum.StrEnum):
    """Why a job ended, decided by whatever reaped it. The values are used in messages and files."""

    OWN = "own"
    """It ended by itself."""
    KILL = "kill"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    """The kernel ended it because it needed more memory than its limit."""
    OUTPUT_LIMIT = "output_limit"
    """It was stopped because its output cannot be kept within its limit."""
    NOT_STARTED = "not_started"
    LOST = "lost"
    """Its end could not be observed."""


UNOBSERVED = "the end time is when this was noticed"
"""Ends the reason of a job whose end was not observed."""

_ENDS_AS = {
    Cause.KILL: State.KILLED,
    Cause.TIMEOUT: State.TIMED_OUT,
    Cause.MEMORY: State.OUT_OF_MEMORY,
    Cause.OUTPUT_LIMIT: State.FAILED,
    Cause.NOT_STARTED: State.FAILED,
    Cause.LOST: State.LOST,
}


def final_state(cause: Cause, exit_code: int | None) -> State:
    """Return the state of a job that ended for this reason."""
    if cause is Cause.OWN:
        return State.COMPLETED if exit_code == 0 else State.FAILED
    return _ENDS_AS[cause]


class Event(enum.Enum):
    """What can happen to a job."""

    DISPATCH = "a slot was given to it"
    STARTED = "its process runs"
    SKIP = "what it waits for can never come true"
    KILL = "somebody asked to end it"
    END = "it ended, or could not be started; the Cause says why"

    __hash__ = object.__hash__  # as in State


class Refused(enum.Enum):
    """Why an event changes nothing in a state."""

    REPEATED = "already known; reporting it again changes nothing"
    ENDED = "the job has ended"
    IMPOSSIBLE = "cannot happen in this state"


class IllegalTransition(WorkerError):
    """An event that the job's state does not allow."""

    def __init__(self, state: State, event: Event, why: Refused) -> None:
        self.state, self.event, self.why = state, event, why
        super().__init__(f"{event.name} in state {state.value}: {why.value}")


class _ByCause(enum.Enum):
    FINAL_STATE = "the final state that the cause of the end leads to"


Answer = State | Refused | _ByCause
"""The next state, or why there is none."""


def _row(queued: Answer, running: Answer, stopping: Answer, ended: Refused) -> dict[State, Answer]:
    live = {State.QUEUED: queued, State.RUNNING: running, State.STOPPING: stopping}
    return live | dict.fromkeys(FINAL, ended)


_NO, _AGAIN, _OVER = Refused.IMPOSSIBLE, Refused.REPEATED, Refused.ENDED
_ENDED = _ByCause.FINAL_STATE

# An observation may come twice, because a restarted engine asks again: REPEATED. A request may come
# too late: ENDED. Both leave the record as it is; only the second is reported to the caller.
_TABLE: dict[Event, dict[State, Answer]] = {
    # event            queued         running         stopping        any final state
    Event.DISPATCH: _row(State.RUNNING, _AGAIN,         _NO,            _OVER),
    Event.STARTED:  _row(_NO,           State.RUNNING,  State.STOPPING, _AGAIN),
    Event.SKIP:     _row(State.SKIPPED, _NO,            _NO,            _AGAIN),
    Event.KILL:     _row(State.KILLED,  State.STOPPING, State.STOPPING, _OVER),
    Event.END:      _row(_NO,           _ENDED,         _ENDED,         _AGAIN),
}  # fmt: skip

TRANSITIONS: dict[tuple[State, Event], Answer] = {
    (state, event): answer for event, row in _TABLE.items() for state, answer in row.items()
}


def advance(state: State, event: Event, ends_as: State | None = None) -> State:
    """Return the state after `event`; raise IllegalTransition where the table allows none.

    `ends_as` is what `final_state` returned, for Event.END.
    """
    answer = TRANSITIONS[state, event]
    if isinstance(answer, Refused):
        raise IllegalTransition(state, event, answer)
    if isinstance(answer, State):
        return answer
    assert ends_as is not None
    return ends_as
