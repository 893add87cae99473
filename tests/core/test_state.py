"""The state machine: every pair of state and event has one answer, and it is the one promised."""

import itertools

import pytest
from worker_core.model.job import Change, Job
from worker_core.model.spec import JobSpec
from worker_core.model.state import (
    FINAL,
    TRANSITIONS,
    Event,
    IllegalTransition,
    Refused,
    State,
    advance,
)

Q, R, S = State.QUEUED, State.RUNNING, State.STOPPING
ENDS = {
    Event.NOT_STARTED: State.FAILED,
    Event.END_SUCCESS: State.COMPLETED,
    Event.END_FAILURE: State.FAILED,
    Event.END_KILLED: State.KILLED,
    Event.END_TIMEOUT: State.TIMED_OUT,
    Event.END_MEMORY: State.OUT_OF_MEMORY,
    Event.LOSE: State.LOST,
}
MOVES = {
    (Q, Event.DISPATCH): R,
    (Q, Event.SKIP): State.SKIPPED,
    (Q, Event.KILL): State.KILLED,
    (R, Event.STARTED): R,
    (S, Event.STARTED): S,
    (R, Event.KILL): S,
    (S, Event.KILL): S,
    **{(state, event): end for state in (R, S) for event, end in ENDS.items()},
}
WISHES = {Event.DISPATCH, Event.KILL}


def test_every_pair_has_an_answer():
    """An event in an unforeseen state would be a crash in production."""
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_the_pair(state, event):
    """A job would end in a state that is not true."""
    if (state, event) in MOVES:
        assert advance(state, event) is MOVES[state, event]
        return
    with pytest.raises(IllegalTransition, match=f"{event.name} in state {state.value}") as caught:
        advance(state, event)
    if state in FINAL:
        expected = Refused.ENDED if event in WISHES else Refused.REPEATED
        assert caught.value.why is expected


def test_final_states_are_those_that_nothing_leaves():
    """A finished job could change."""
    assert {state for state in State if state.final} == FINAL
    assert not [pair for pair in MOVES if pair[0] in FINAL]
    assert {state.value for state in State} == {
        "queued",
        "running",
        "stopping",
        "completed",
        "skipped",
        "failed",
        "killed",
        "timed_out",
        "out_of_memory",
        "lost",
    }


def job(state):
    return Job("id", "me", JobSpec("true"), state, created_at=1.0)


def test_the_first_who_asked_is_the_one_who_killed():
    """A second kill would take the blame for the first."""
    asked = job(R).after(Change(Event.KILL, 2.0, by="alice", reason="old"))
    again = asked.after(Change(Event.KILL, 3.0, by="bob"))
    ended = again.after(Change(Event.END_KILLED, 4.0, signal=15))
    assert (ended.killed_by, ended.reason, ended.ended_at) == ("alice", "killed by alice: old", 4.0)


def test_a_job_that_ended_by_itself_was_not_killed_by_who_asked():
    """A kill that came too late would be told as a success."""
    asked = job(R).after(Change(Event.KILL, 2.0, by="alice"))
    ended = asked.after(Change(Event.END_SUCCESS, 3.0, exit_code=0))
    assert (ended.state, ended.killed_by, ended.kill_by) == (State.COMPLETED, None, "alice")
    assert ended.summary() == "completed with exit code 0"


def test_a_queued_job_is_killed_without_having_run():
    """It would have a time at which it started."""
    ended = job(Q).after(Change(Event.KILL, 2.0, by="alice"))
    assert (ended.state, ended.started_at, ended.killed_by) == (State.KILLED, None, "alice")
    assert ended.summary() == "been killed by alice"


def test_a_kill_that_nobody_could_record_was_by_somebody():
    """A record would say "killed by None"."""
    ended = job(R).after(Change(Event.END_KILLED, 2.0, signal=15))
    assert (ended.killed_by, ended.reason) == ("unknown", "killed by unknown")


def test_a_skipped_job_says_why():
    """A kill of a skipped job would be answered with "has already skipped"."""
    skipped = job(Q).after(Change(Event.SKIP, 2.0, reason="skipped: job 0f3c… failed"))
    assert (skipped.state, skipped.started_at, skipped.ended_at) == (State.SKIPPED, None, 2.0)
    assert skipped.summary() == "been skipped: job 0f3c… failed"


@pytest.mark.parametrize(
    ("change", "summary"),
    [
        (Change(Event.END_FAILURE, 2.0, reason="exit code 3"), "failed: exit code 3"),
        (Change(Event.END_TIMEOUT, 2.0, reason="timed out after 2 seconds"),
         "timed out after 2 seconds"),
        (Change(Event.LOSE, 2.0, reason="the machine was restarted"),
         "been lost: the machine was restarted"),
        (Change(Event.END_MEMORY, 2.0), "run out of memory"),
    ],
)  # fmt: skip
def test_how_it_ended_ends_a_sentence(change, summary):
    """An answer would read "has already killed"."""
    assert job(R).after(change).summary() == summary


def test_the_views_are_what_the_api_shows():
    """A client would miss a field, or find a time it cannot read."""
    view = job(Q).status_view()
    assert set(view) == {
        "id",
        "status",
        "exit_code",
        "signal",
        "reason",
        "killed_by",
        "created_at",
        "started_at",
        "ended_at",
        "duration",
        "usage",
    }
    assert view["created_at"] == "1970-01-01T00:00:01.000Z"
    assert view["status"] == "queued"
    record = job(Q).record_view()
    assert set(record) - set(view) == {"owner", "run_as", "pid", "spec", "enforced"}
