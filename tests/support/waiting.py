"""Waiting for something to become true, instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    timeout: float = 30.0,
    message: str | Callable[[], str] = "",
) -> T:
    """Return the first true value of `condition()`; AssertionError once `timeout` seconds are over.

    `condition` is called at least once, then again and again with short pauses (1 ms,
    growing to 50 ms), and once more after the deadline, so that a slow machine which never
    got to run in between does not fail a test for nothing. An exception from `condition`
    ends the wait. `message` says what was waited for; as a callable it is asked only on
    failure, for example for the end of a daemon's log.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        late = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if late:
            what = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:g} s: {what or repr(condition)}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
