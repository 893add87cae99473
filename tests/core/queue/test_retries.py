"""Which attempts are followed by another one, and after how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_core.model.state import State
from worker_core.model.waiting.retry import RETRIED, RetryPolicy
from worker_core.queue import retries
from worker_core.queue.retries import Attempt

F = State.FAILED


@pytest.mark.parametrize(
    ("policy", "attempt", "follows"),
    [
        (RetryPolicy(1), Attempt(1, F, 2), True),
        (RetryPolicy(1), Attempt(2, F, 2), False),
        (RetryPolicy(0), Attempt(1, F, 2), False),
        (RetryPolicy(3), Attempt(1, State.COMPLETED, 0), False),
        (RetryPolicy(3), Attempt(1, State.KILLED), False),
        (RetryPolicy(3), Attempt(1, State.SKIPPED), False),
        (RetryPolicy(3), Attempt(1, F, 2, wanted_to_end=True), False),
        (RetryPolicy(3), Attempt(1, F, 127, executed=False), False),
        (RetryPolicy(3), Attempt(1, F, 127), True),
        (RetryPolicy(3), Attempt(1, State.TIMED_OUT), True),
        (RetryPolicy(3), Attempt(1, State.OUT_OF_MEMORY), True),
        (RetryPolicy(3), Attempt(1, State.LOST), False),
        (RetryPolicy(3, on=(State.LOST,)), Attempt(1, State.LOST), True),
        (RetryPolicy(3, on=(State.LOST,)), Attempt(1, F, 1), False),
        (RetryPolicy(3, exit_codes=(75,)), Attempt(1, F, 75), True),
        (RetryPolicy(3, exit_codes=(75,)), Attempt(1, F, 1), False),
        (RetryPolicy(3, exit_codes=(75,)), Attempt(1, F, None), False),
        (RetryPolicy(3, exit_codes=(75,)), Attempt(1, State.TIMED_OUT), True),
    ],
)
def test_what_is_attempted_again(policy, attempt, follows):
    """A killed job would come back, or one that may still run would run twice."""
    assert retries.follows(policy, attempt) is follows


def test_each_wait_is_longer_up_to_the_most():
    """A job would knock on a server that is down as often as it can."""
    policy = RetryPolicy(10, delay=10, factor=2, max_delay=60)
    assert [retries.wait(policy, n) for n in range(1, 6)] == [10, 20, 40, 60, 60]
    assert retries.wait(RetryPolicy(1000, 10, 1000.0), 1000) == 360
    assert retries.wait(RetryPolicy(1000, 0, 1000.0), 1000) == 0


@given(
    st.integers(0, 5),
    st.integers(1, 7),
    st.floats(0, 100),
    st.floats(1, 100),
    st.sampled_from(RETRIED),
    st.floats(-1, 1),
)
def test_a_job_has_no_more_attempts_than_it_asked_for(most, number, delay, factor, state, luck):
    """A job would be attempted for ever, or before now."""
    policy = RetryPolicy(most, delay, factor, on=RETRIED)
    at = retries.next_time(policy, Attempt(number, state, 1), 1000.0, luck)
    assert (at is not None) == (number <= most)
    if at is not None:
        wait = retries.wait(policy, number)
        assert 1000.0 + wait * 0.75 - 1e-6 <= at <= 1000.0 + wait * 1.25 + 1e-6


def test_the_wait_is_said():
    """A user would take a job between two attempts for one that hangs."""
    sentence = retries.why_waiting(2, RetryPolicy(3), "22:00:10")
    assert sentence == "waiting until 22:00:10 for attempt 2 of 4"
