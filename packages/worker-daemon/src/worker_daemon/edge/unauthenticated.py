"""Connections that have not logged in: how many each network has, and which one makes room.

A connection without a login has no claim to its place, whatever it does. When there is no more
room, the network that has the most of them loses the one that came first: whoever opens many
connections closes their own.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from worker_daemon.auth import throttle

T = TypeVar("T")


class Unauthenticated(Generic[T]):
    """The connections without a login, by network. Any thread may call any method.

    No method takes longer when there are more connections.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._network: dict[T, str] = {}
        self._of: dict[str, dict[T, None]] = {}  # the first came first
        self._with_count: dict[int, dict[str, None]] = {}  # networks with that many
        self._most = 0  # that one network has

    def __len__(self) -> int:
        return len(self._network)

    def add(self, connection: T, address: str) -> None:
        """Add a connection that has just been accepted."""
        with self._lock:
            key = self._network[connection] = throttle.network(address)
            self._of.setdefault(key, {})[connection] = None
            self._recount(key, 1)
            self._most = max(self._most, len(self._of[key]))

    def remove(self, connection: T) -> None:
        """Remove a connection that has logged in, or is closed."""
        with self._lock:
            key = self._network.pop(connection, None)
            if key is None:
                return
            del self._of[key][connection]
            self._recount(key, -1)
            if not self._of[key]:
                del self._of[key]
            if self._most and self._most not in self._with_count:
                self._most -= 1

    def first(self) -> T | None:
        """Return the connection to close when there is no more room, None if there is none."""
        with self._lock:
            if not self._most:
                return None
            key = next(iter(self._with_count[self._most]))
            return next(iter(self._of[key]))

    def excess(self, connection: T, limit: int) -> T | None:
        """Return the connection to close when the network of `connection` has over `limit`."""
        with self._lock:
            same = self._of.get(self._network.get(connection, ""), {})
            return next(iter(same)) if len(same) > limit else None

    def _recount(self, key: str, change: int) -> None:
        """Move a network to those with its present number of connections."""
        count = len(self._of[key])
        before = self._with_count.get(count - change)
        if before is not None:
            before.pop(key, None)
            if not before:
                del self._with_count[count - change]
        if count:
            self._with_count.setdefault(count, {})[key] = None
