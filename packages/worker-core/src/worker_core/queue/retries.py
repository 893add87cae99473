"""Whether an attempt that did not complete is followed by another one, and when."""

from __future__ import annotations

from dataclasses import dataclass

from worker_core.model.state import State
from worker_core.model.waiting.retry import RetryPolicy

JITTER = 0.25
"""A wait is longer or shorter by up to this part, at random. Otherwise jobs that failed at the same
time would all be attempted again at the same time."""


@dataclass(frozen=True)
class Attempt:
    """How an attempt ended; `number` counts from 1."""

    number: int
    state: State
    exit_code: int | None = None
    wanted_to_end: bool = False
    """Whether a user asked to end it; it may have ended for another reason."""
    executed: bool = True
    """Whether its command was found and executed."""


def next_time(policy: RetryPolicy, attempt: Attempt, now: float, luck: float) -> float | None:
    """Return when the next attempt starts, or None if there is none.

    `luck` is a random number from -1 to 1.
    """
    if not follows(policy, attempt):
        return None
    return now + wait(policy, attempt.number) * (1 + JITTER * luck)


def follows(policy: RetryPolicy, attempt: Attempt) -> bool:
    """Return whether another attempt follows this one."""
    if attempt.number > policy.max or attempt.wanted_to_end or not attempt.executed:
        return False
    if attempt.state not in policy.on:
        return False
    if attempt.state is State.FAILED and policy.exit_codes is not None:
        return attempt.exit_code in policy.exit_codes
    return True


def wait(policy: RetryPolicy, number: int) -> float:
    """Return the seconds between the end of an attempt and the next one, without the jitter."""
    try:
        return min(policy.delay * policy.factor ** (number - 1), policy.max_delay)
    except OverflowError:
        return policy.max_delay if policy.delay else 0.0


def why_waiting(number: int, policy: RetryPolicy, at: str) -> str:
    """Return the sentence of a job that waits for its next attempt; `at` is that time as text."""
    return f"waiting until {at} for attempt {number} of {policy.max + 1}"
