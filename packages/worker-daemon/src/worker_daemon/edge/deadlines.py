"""How long a connection may take for each phase."""

from __future__ import annotations

import threading
import time
from typing import Any

from worker_daemon.settings import config

_LINGER = 5.0  # seconds for the client to read the last response
_LINGER_DRAINING = 1.0  # the same, while the server drains
_FIRST_DRAINING = 2.0  # seconds for the first request of a connection, while the server drains
_LEAST_RATE = 1000  # bytes per second; a client that sends more slowly for long is an attacker


class Deadlines:
    """When a connection has made progress, and whether it has used up its time.

    All times are monotonic seconds.
    """

    def __init__(self, limits: config.Config, draining: threading.Event) -> None:
        self._limits = limits
        self._draining = draining
        self._accepted = self._moved = self._begun = time.monotonic()

    def move(self) -> None:
        """Note that bytes were read or written."""
        self._moved = time.monotonic()

    def begin(self) -> None:
        """Note that something new has begun: a request, or lingering."""
        self._moved = self._begun = time.monotonic()

    def quiet(self, now: float) -> float:
        """Return for how many seconds nothing was read or written."""
        return now - self._moved

    def first_request_over(self, now: float) -> bool:
        """Return whether, while the server drains, the first request comes too late."""
        return now - self._accepted > _FIRST_DRAINING

    def handshake_over(self, now: float) -> bool:
        """Return whether the handshake has taken too long."""
        return now - self._accepted > self._limits.handshake_timeout

    def lingering_over(self, now: float, discarded: int) -> bool:
        """Return whether the client has had its time to read the last response.

        A client that is still sending a body reads the response only after that. It has time for
        all the bytes that were `discarded`, up to the longest body.
        """
        linger = _LINGER_DRAINING if self._draining.is_set() else _LINGER
        more = discarded / _LEAST_RATE if discarded <= self._limits.max_body else 0
        return self.quiet(now) > linger or now - self._begun > linger + more

    def reading_over(self, now: float) -> bool:
        """Return whether the client has stopped reading a response."""
        return self.quiet(now) > self._limits.body_timeout

    def request_over(self, now: float, request: Any) -> bool:
        """Return whether the client has taken too long to send a request; None is no request."""
        if request is None:
            return self.quiet(now) > self._limits.idle_timeout
        taken = now - self._begun
        if not request.headers_finished:
            return taken > self._limits.header_timeout
        allowed = self._limits.body_timeout + request.body_bytes_received / _LEAST_RATE
        return self.quiet(now) > self._limits.body_timeout or taken > allowed
