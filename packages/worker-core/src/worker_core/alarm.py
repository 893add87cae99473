"""Alarm: a thread that waits for the next time at which something has to be done."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker_core.clock import Clock

_LONGEST = 20.0  # seconds of a wait, since the clock can be set and the machine suspended


class Alarm:
    """Calls `ring` at each time that `next_time` returns. The thread starts with the first one."""

    def __init__(
        self, clock: Clock, next_time: Callable[[], float | None], ring: Callable[[], None]
    ) -> None:
        """`next_time` returns a Unix time, or None if there is nothing to wait for."""
        self._clock = clock
        self._next_time = next_time
        self._ring = ring
        self._changed = threading.Condition()
        self._stale = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Look at the next time again: it may have changed."""
        if self._thread is None and self._next_time() is None:
            return
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="worker-alarm", daemon=True)
                self._thread.start()
            self._stale = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            at = self._next_time()
            wait = None if at is None else at - self._clock.now()
            if wait is not None and wait <= 0:
                self._ring()
                continue
            with self._changed:
                if not self._stale and not self._closed:
                    self._changed.wait(None if wait is None else min(wait, _LONGEST))
                self._stale = False
