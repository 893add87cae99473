"""The state machine: every pair of state and event has one answer, and it is the one promised."""

import itertools

import pytest
from worker_core.model.job import Change, Job
from worker_core.model.kill import KillRequest
from worker_core.model.spec import JobSpec
from worker_core.model.state import (
    FINAL,
    TRANSITIONS,
    Cause,
    Event,
    IllegalTransition,
    Refused,
    State,
    advance,
    final_state,
)

Q, R, S = State.QUEUED, State.RUNNING, State.STOPPING
ENDS = {
    (Cause.NOT_STARTED, 127): State.FAILED,
    (Cause.OWN, 0): State.COMPLETED,
    (Cause.OWN, 3): State.FAILED,
    (Cause.OWN, None): State.FAILED,
    (Cause.OUTPUT_LIMIT, None): State.FAILED,
    (Cause.KILL, 0): State.KILLED,
    (Cause.KILL, None): State.KILLED,
    (Cause.TIMEOUT, 0): State.TIMED_OUT,
    (Cause.MEMORY, None): State.OUT_OF_MEMORY,
    (Cause.LOST, None): State.LOST,
}
MOVES = {
    (Q, Event.DISPATCH): R,
    (Q, Event.SKIP): State.SKIPPED,
    (Q, Event.KILL): State.KILLED,
    (R, Event.STARTED): R,
    (S, Event.STARTED): S,
    (R, Event.KILL): S,
    (S, Event.KILL): S,
    (R, Event.END): State.LOST,
    (S, Event.END): State.LOST,
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
        assert advance(state, event, State.LOST) is MOVES[state, event]
        return
    with pytest.raises(IllegalTransition, match=f"{event.name} in state {state.value}") as caught:
        advance(state, event)
    if state in FINAL:
        expected = Refused.ENDED if event in WISHES else Refused.REPEATED
        assert caught.value.why is expected


@pytest.mark.parametrize(("end", "state"), ENDS.items())
def test_how_a_job_ends(end, state):
    """A job would be shown as failed that was killed, or as completed that failed."""
    cause, exit_code = end
    assert final_state(cause, exit_code) is state
    change = Change(Event.END, 2.0, cause, exit_code=exit_code)
    assert job(R).after(change).state is job(S).after(change).state is state


def test_every_cause_has_a_final_state():
    """The engine would fail to record the end of a job."""
    assert {final_state(cause, None) for cause in Cause} <= FINAL


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
    asked = job(R).after(Change(Event.KILL, 2.0, kill=KillRequest("alice", "old")))
    again = asked.after(Change(Event.KILL, 3.0, kill=KillRequest("bob")))
    ended = again.after(Change(Event.END, 4.0, Cause.KILL, signal=15))
    assert (ended.killed_by, ended.reason, ended.ended_at) == ("alice", "killed by alice: old", 4.0)


@pytest.mark.parametrize(
    ("first", "later", "both"),
    [
        ((9, None), (None, None), (9, None)),
        ((9, None), (2, 60.0), (9, 10.0)),
        ((2, None), (9, None), (9, None)),
        ((2, None), (None, None), (None, None)),
        ((None, 5.0), (2, None), (2, 5.0)),
        ((None, 60.0), (None, None), (None, 10.0)),
        ((None, 60.0), (None, 1.0), (None, 1.0)),
    ],
)
def test_a_later_kill_never_softens_an_earlier_one(first, later, both):
    """A `kill --now` would be forgotten if a gentler kill came before it was delivered."""
    asked = job(R).after(Change(Event.KILL, 2.0, kill=KillRequest("a", None, *first)))
    again = asked.after(Change(Event.KILL, 3.0, kill=KillRequest("b", None, *later)))
    assert again.kill == KillRequest("a", None, *both)


def test_a_job_that_ended_by_itself_was_not_killed_by_who_asked():
    """A kill that came too late would be reported as a success."""
    asked = job(R).after(Change(Event.KILL, 2.0, kill=KillRequest("alice")))
    ended = asked.after(Change(Event.END, 3.0, Cause.OWN, exit_code=0))
    assert (ended.state, ended.killed_by, ended.kill.by) == (State.COMPLETED, None, "alice")
    assert ended.summary() == "completed with exit code 0"


def test_a_queued_job_is_killed_without_having_run():
    """The record would have a start time although the job never ran."""
    ended = job(Q).after(Change(Event.KILL, 2.0, kill=KillRequest("alice")))
    assert (ended.state, ended.started_at, ended.killed_by) == (State.KILLED, None, "alice")
    assert ended.summary() == "been killed by alice"


def test_a_kill_that_nobody_could_record_was_by_somebody():
    """A record would say "killed by None"."""
    ended = job(R).after(Change(Event.END, 2.0, Cause.KILL, signal=15))
    assert (ended.killed_by, ended.reason) == ("unknown", "killed by unknown")


def test_a_skipped_job_says_why():
    """A kill of a skipped job would be answered with "has already skipped"."""
    skipped = job(Q).after(Change(Event.SKIP, 2.0, reason="skipped: job 0f3c… failed"))
    assert (skipped.state, skipped.started_at, skipped.ended_at) == (State.SKIPPED, None, 2.0)
    assert skipped.summary() == "been skipped: job 0f3c… failed"


@pytest.mark.parametrize(
    ("change", "summary"),
    [
        (Change(Event.END, 2.0, Cause.OWN, reason="exit code 3"), "failed: exit code 3"),
        (Change(Event.END, 2.0, Cause.TIMEOUT, reason="timed out after 2 seconds"),
         "timed out after 2 seconds"),
        (Change(Event.END, 2.0, Cause.LOST, reason="the machine was restarted"),
         "been lost: the machine was restarted"),
        (Change(Event.END, 2.0, Cause.MEMORY), "run out of memory"),
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
        "waiting",
    }
    assert view["created_at"] == "1970-01-01T00:00:01.000Z"
    assert view["status"] == "queued"
    record = job(Q).record_view()
    assert set(record) - set(view) == {
        "owner", "run_as", "pid", "spec", "enforced", "priority", "hold", "start_after",
    }  # fmt: skip
