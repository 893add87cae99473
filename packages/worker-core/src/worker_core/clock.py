"""Time as an argument: the real clock, and the protocol that tests implement with another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

_STEP = 1.0  # seconds: a smaller difference is a clock that is being adjusted slowly
_MOST_STEPS = 64


class Clock(Protocol):
    """Where an engine or a supervisor reads the time."""

    def now(self) -> float:
        """Return the UTC time in Unix seconds, for stamps only."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for durations and deadlines."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Return the UTC time in Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since boot, suspended time included, as deadlines of jobs count them."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


Offsets = tuple[tuple[float, float], ...]
"""(monotonic time, UTC minus monotonic time from then on), the oldest first."""


class Timeline:
    """How the UTC clock was set while this machine has been up, for ages that no step changes.

    A stamp is a reading of a clock that can be set: the difference of two of them is a duration
    only if nobody has set it in between. Any thread may use it.
    """

    def __init__(
        self,
        clock: Clock,
        known: Offsets = (),
        remember: Callable[[Offsets], None] = lambda _: None,
    ) -> None:
        """`known` is what `remember` was called with last, in the same boot of the machine."""
        self._clock = clock
        self._remember = remember
        self._offsets = known
        self.look()

    def look(self) -> None:
        """See whether the clock was set since the last look."""
        now = self._clock.monotonic()
        offset = self._clock.now() - now
        if not self._offsets or abs(offset - self._offsets[-1][1]) > _STEP:
            self._offsets = (*self._offsets[1 - _MOST_STEPS :], (now, offset))
            self._remember(self._offsets)

    def ago(self, seconds: float) -> float:
        """Return a stamp such that whatever bears an earlier one is at least so many seconds old.

        Some of what bears a later one may be, too, if the clock was set since then.
        """
        self.look()
        offsets = self._offsets
        then = self._clock.monotonic() - seconds
        ends = [since for since, _ in offsets[1:]]
        in_force = [each[1] for end, each in zip(ends, offsets, strict=False) if end > then]
        return then + min([*in_force, offsets[-1][1]])
