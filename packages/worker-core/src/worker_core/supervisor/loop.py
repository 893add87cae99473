"""The supervisor's loop: one thread, one selector, deadlines as data.

An exception of a handler is logged, and the loop goes on. Timers and handlers of signals are called
again if a shortage of the machine, such as no free descriptor, made them fail: nothing else would
call them a second time.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import selectors
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from worker_core.clock import Clock

log = logging.getLogger(__name__)

_RETRY = 0.1  # seconds between two calls of a handler that a shortage made fail
_LONGEST_WAIT = 60.0  # seconds for which the selector waits at most


@dataclass(order=True)
class Timer:
    """A call that is due at a monotonic time, unless it is cancelled."""

    due: float
    number: int
    call: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """Make sure that the call is not made any more."""
        self.call = None


class Loop:
    """Waits for descriptors, signals and deadlines."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._running = True
        self._on_signal: dict[int, Callable[[], None]] = {}
        self._wakeup, self._waker = socket.socketpair()
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        self.watch(self._wakeup.fileno(), selectors.EVENT_READ, self._signalled)

    def on_signals(self, handlers: dict[int, Callable[[], None]]) -> None:
        """Call a handler in the loop after its signal has come.

        An exec resets these signals to their default.
        """
        self._on_signal = handlers
        for signum in handlers:
            signal.signal(signum, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def watch(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        """Call `call(ready events)` whenever `fd` is ready for one of `events`."""
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, call)
        else:
            self._selector.register(fd, events, call)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`, if it is watched."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, `seconds` from now."""
        return self.call_at(self.clock.monotonic() + seconds, call)

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, at a monotonic time."""
        timer = Timer(due, next(self._numbers), call)
        heapq.heappush(self._timers, timer)
        return timer

    def attempt(self, call: Callable[[], None]) -> None:
        """Call `call` now, and again a moment later for as long as it raises OSError."""
        self._attempt(Timer(0.0, next(self._numbers), call))

    def stop(self) -> None:
        """Let `run` return after the handlers that are due now."""
        self._running = False

    def run(self) -> None:
        """Call handlers until `stop` is called."""
        while self._running:
            for key, ready in self._selector.select(self._wait()):
                self._guard(key.data, ready)
            self._run_timers()

    def _wait(self) -> float:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return _LONGEST_WAIT
        return min(max(self._timers[0].due - self.clock.monotonic(), 0), _LONGEST_WAIT)

    def _run_timers(self) -> None:
        now = self.clock.monotonic()
        while self._timers and self._timers[0].due <= now:
            self._attempt(heapq.heappop(self._timers))

    def _attempt(self, timer: Timer) -> None:
        try:
            if timer.call is not None:
                timer.call()
        except OSError as error:
            log.warning("trying again: %s", error)
            timer.due = self.clock.monotonic() + _RETRY
            heapq.heappush(self._timers, timer)
        except Exception:
            log.exception("a handler failed; going on")

    def _signalled(self, _: int) -> None:
        signums: Iterable[int] = set(self._wakeup.recv(4096))
        for signum in signums:
            if signum in self._on_signal:
                self.attempt(self._on_signal[signum])

    def _guard(self, call: Callable[..., None], *args: int) -> None:
        try:
            call(*args)
        except Exception:
            log.exception("a handler failed; going on")
