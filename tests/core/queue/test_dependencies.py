"""What follows for the jobs that wait for another one, when that one starts or ends."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_core.model.state import FINAL, State
from worker_core.model.waiting.after import When
from worker_core.queue import dependencies
from worker_core.queue.dependencies import Edge, Parent, Verdict

S, F, E, B = When.SUCCESS, When.FAILURE, When.END, When.START
OPEN, WAITS, NEVER = Verdict.OPEN, Verdict.WAITS, Verdict.NEVER
Q, R = State.QUEUED, State.RUNNING
TABLE = {  # of state and whether it was started: success, failure, end, start
    (Q, False): (WAITS, WAITS, WAITS, WAITS),
    (R, True): (WAITS, WAITS, WAITS, OPEN),
    (State.STOPPING, True): (WAITS, WAITS, WAITS, OPEN),
    (State.COMPLETED, True): (OPEN, NEVER, OPEN, OPEN),
    (State.FAILED, True): (NEVER, OPEN, OPEN, OPEN),
    (State.TIMED_OUT, True): (NEVER, OPEN, OPEN, OPEN),
    (State.OUT_OF_MEMORY, True): (NEVER, OPEN, OPEN, OPEN),
    (State.LOST, True): (NEVER, OPEN, OPEN, OPEN),
    (State.KILLED, True): (NEVER, OPEN, OPEN, OPEN),
    (State.KILLED, False): (NEVER, NEVER, OPEN, NEVER),
    (State.SKIPPED, False): (NEVER, NEVER, OPEN, NEVER),
}


@pytest.mark.parametrize(("state", "started"), TABLE)
def test_every_outcome_has_a_verdict(state, started):
    """A child would start too early, or wait for ever."""
    parent = Parent("p", state, started)
    answers = tuple(dependencies.verdict(when, parent) for when in (S, F, E, B))
    assert answers == TABLE[state, started]


def test_the_table_has_every_state():
    """A state that is added later would have no verdict."""
    assert {state for state, _ in TABLE} == set(State)


def test_no_child_waits_for_what_has_ended():
    """A child would wait for ever."""
    for state, started, when in itertools.product(FINAL, (True, False), When):
        assert dependencies.verdict(when, Parent("p", state, started)) is not WAITS


def graph(*edges):
    """Return a lookup of the dependencies on each parent, from (child, parent, when)."""
    return lambda parent: [Edge(*each) for each in edges if each[1] == parent]


def test_an_end_opens_and_skips_in_turn():
    """A job would wait for one that was skipped."""
    found = dependencies.consequences(
        Parent("a", State.FAILED, started=True, exit_code=2),
        graph(("b", "a", S), ("c", "b", E), ("d", "b", S), ("e", "d", F), ("f", "a", F)),
    )
    assert found.opened == [Edge("f", "a", F), Edge("c", "b", E)]
    assert found.skipped == {
        "b": "skipped: job a failed (exit code 2)",
        "d": "skipped: job b was skipped",
        "e": "skipped: job d was skipped",
    }


def test_a_job_is_skipped_once():
    """A job that depends twice on what failed would be recorded twice."""
    found = dependencies.consequences(
        Parent("a", State.COMPLETED, started=True),
        graph(("b", "a", F), ("c", "a", F), ("d", "b", S), ("d", "c", S), ("b", "a", E)),
    )
    assert list(found.skipped) == ["b", "c", "d"]


def test_a_start_opens_only_what_waits_for_it():
    """A job would start although the one before it has not ended."""
    edges = graph(("b", "a", B), ("c", "a", S), ("d", "a", E))
    found = dependencies.consequences(Parent("a", R, started=True), edges)
    assert (found.opened, found.skipped) == ([Edge("b", "a", B)], {})


def test_a_long_chain_is_skipped_to_its_end():
    """A chain of ten thousand jobs would end in an error of recursion."""
    many = 10_000
    found = dependencies.consequences(
        Parent("0", State.KILLED),
        lambda parent: [Edge(str(int(parent) + 1), parent, S)] if int(parent) < many else [],
    )
    assert len(found.skipped) == many


EDGES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(When)).map(
        lambda each: (str(max(each[:2]) + 1), str(min(each[:2])), each[2])
    ),
    max_size=25,
)


@given(EDGES, st.sampled_from(sorted(FINAL, key=lambda state: state.value)))
def test_every_child_of_an_ended_job_is_opened_or_skipped(edges, state):
    """A child would wait for ever."""
    found = dependencies.consequences(Parent("0", state, state is not State.SKIPPED), graph(*edges))
    ended = {"0", *found.skipped}
    for child, parent, when in edges:
        if parent in ended:
            assert child in found.skipped or Edge(child, parent, when) in found.opened
    assert {edge.parent for edge in found.opened} <= ended


@pytest.mark.parametrize(
    ("parent", "sentence"),
    [
        (Parent("0f3c1111-2222", State.FAILED, True, 2), "job 0f3c… failed (exit code 2)"),
        (Parent("0f3c1111-2222:7", State.FAILED, True, None, 11), "job 0f3c…:7 failed (signal 11)"),
        (Parent("a", State.FAILED), "job a failed"),
        (Parent("a", State.COMPLETED), "job a completed"),
        (Parent("a", State.KILLED, started=True), "job a was killed"),
        (Parent("a", State.KILLED), "job a was killed before it started"),
        (Parent("a", State.TIMED_OUT), "job a timed out"),
        (Parent("a", State.OUT_OF_MEMORY), "job a ran out of memory"),
        (Parent("a", State.LOST), "job a was lost"),
        (Parent("a", State.SKIPPED), "job a was skipped"),
    ],
)
def test_a_skipped_job_says_which_job_is_to_blame(parent, sentence):
    """A user would search a hundred jobs for the one that failed."""
    assert dependencies.why_skipped(parent) == f"skipped: {sentence}"


def test_what_a_job_waits_for_is_said():
    """A user would not know which job to look at."""
    waits = [("0f3c1111-2222", S), ("b", F), ("c", E), ("d", B), ("e", S)]
    assert dependencies.why_waiting(waits[:1]) == "waiting for job 0f3c… to complete"
    assert dependencies.why_waiting(waits) == (
        "waiting for job 0f3c… to complete, job b to fail, job c to end and 2 more"
    )
    assert dependencies.why_waiting(waits[3:4]) == "waiting for job d to start"
