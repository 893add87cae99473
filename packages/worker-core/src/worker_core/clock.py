"""The clock that is passed to engine and supervisor, so that tests can use another one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

_STEP = 1.0  # seconds; a smaller difference comes from slow adjustment of the clock, as NTP does
_MOST_STEPS = 64


class Clock(Protocol):
    """Where an engine or a supervisor reads the time."""

    def now(self) -> float:
        """Return the UTC time in Unix seconds, for timestamps only."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for durations and deadlines."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Return the UTC time in Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since boot, including suspended time; timeouts of jobs use this."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


Offsets = tuple[tuple[float, float], ...]
"""(monotonic time, UTC minus monotonic time from then on), the oldest first."""


class Timeline:
    """The changes of the UTC clock since boot; with them ages of jobs are right after a change.

    The difference of two timestamps is a duration only if the clock was not set in between. Any
    thread may use this object.
    """

    def __init__(
        self,
        clock: Clock,
        known: Offsets = (),
        remember: Callable[[Offsets], None] = lambda _: None,
    ) -> None:
        """`known` is the last value that `remember` was called with since the machine booted."""
        self._clock = clock
        self._remember = remember
        self._offsets = known
        self.look()

    def look(self) -> None:
        """Check whether the clock was set since the last look."""
        now = self._clock.monotonic()
        offset = self._clock.now() - now
        if not self._offsets or abs(offset - self._offsets[-1][1]) > _STEP:
            self._offsets = (*self._offsets[1 - _MOST_STEPS :], (now, offset))
            self._remember(self._offsets)

    def ago(self, seconds: float) -> float:
        """Return a timestamp; whatever has an earlier one is at least `seconds` old.

        If the clock was set since then, some things with a later timestamp may be that old, too.
        """
        self.look()
        offsets = self._offsets
        then = self._clock.monotonic() - seconds
        ends = [since for since, _ in offsets[1:]]
        in_force = [each[1] for end, each in zip(ends, offsets, strict=False) if end > then]
        return then + min([*in_force, offsets[-1][1]])
