"""What the elements of an array come to together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_core.model.state import FINAL, State
from worker_core.model.waiting.array import Array
from worker_core.queue import arrays
from worker_core.queue.arrays import Indices

Q, R, C, F, K = State.QUEUED, State.RUNNING, State.COMPLETED, State.FAILED, State.KILLED


@pytest.mark.parametrize(
    ("counts", "killed", "state"),
    [
        ({Q: 3}, False, Q),
        ({Q: 3}, True, Q),
        ({Q: 2, R: 1}, False, R),
        ({Q: 2, C: 1}, False, R),
        ({State.STOPPING: 1, C: 1}, True, R),
        ({C: 3, F: 0}, False, C),
        ({C: 2, F: 1}, False, F),
        ({C: 2, State.SKIPPED: 1}, False, F),
        ({C: 2, K: 1}, False, F),
        ({C: 2, K: 1}, True, K),
        ({State.LOST: 1}, False, F),
    ],
)
def test_the_state_follows_from_the_elements(counts, killed, state):
    """An array would be done while an element runs, or completed although one failed."""
    assert arrays.state(counts, killed=killed) is state


@given(st.dictionaries(st.sampled_from(State), st.integers(1, 9), min_size=1), st.booleans())
def test_an_array_has_ended_when_all_its_elements_have(counts, killed):
    """A job that waits for an array would start too early, or never."""
    assert arrays.state(counts, killed=killed).final == all(state in FINAL for state in counts)


def test_failures_are_counted_up_to_the_most():
    """A hundred thousand elements would run although the first ten show that none can."""
    counts = {F: 1, State.TIMED_OUT: 1, State.LOST: 1, K: 5, C: 5}
    assert arrays.failures(counts) == 3
    assert arrays.too_many_failures(counts, 3)
    assert not arrays.too_many_failures(counts, 4)
    assert not arrays.too_many_failures(counts, None)
    assert arrays.why_skipped(counts) == "skipped: 3 elements of the array have failed"


def test_progress_is_one_line():
    """A user would count a hundred lines."""
    counts = {C: 87, F: 1, State.LOST: 1, R: 4, State.STOPPING: 1, Q: 6}
    assert arrays.progress(counts) == "87/100 done, 2 failed, 5 running"
    assert arrays.progress({Q: 3}) == "0/3 done"
    assert arrays.progress({C: 1, K: 2, State.SKIPPED: 3}) == "1/6 done, 2 killed, 3 skipped"
    assert arrays.why_waiting(5, 5) == "waiting for other elements of the array: 5 of 5 running"


RUNS = st.sampled_from(["1-9", "0-20:3", "5", "1,3,7", "1-4,8-9,20-30:5"])


@given(RUNS, st.lists(st.one_of(st.none(), st.integers(0, 31)), max_size=40))
def test_indices_are_those_that_were_not_taken(text, steps):
    """An element would start twice, or never."""
    indices = Indices(Array(text).runs())
    expected = [index for run in Array(text).runs() for index in run]
    for step in steps:
        if step is not None:
            assert (step in indices) == (step in expected)
            assert indices.remove(step) == (step in expected)
            expected = [each for each in expected if each != step]
        elif expected:
            assert indices.first() == expected[0]
            assert indices.take() == expected.pop(0)
        assert list(indices) == expected
        assert (len(indices), bool(indices)) == (len(expected), bool(expected))


def test_indices_take_no_memory_for_each():
    """An array of a hundred thousand would take as much memory as a hundred thousand jobs."""
    indices = Indices(Array("1-1000000").runs())
    indices.remove(500)
    indices.take()
    assert (len(indices._runs), len(indices)) == (2, 999_998)
