"""Time as an argument: the real clock, and the protocol that tests implement with another."""

from __future__ import annotations

import time
from typing import Protocol


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
