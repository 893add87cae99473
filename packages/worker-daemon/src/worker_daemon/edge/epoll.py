"""The main loop's view of all connections: who waits for what.

waitress asks every connection before every wait what it waits for. With five hundred followers
that is most of what the daemon does. Here the answers are remembered, in an epoll object, and
asked for again only after something has happened to a connection.

A step of a TLS handshake takes as long as several requests, and anybody can ask for hundreds of
them at once without any work, by sending the same first record again and again. So each turn has
only a few of them, from each network in turn; the others wait in line. Whoever has had the first
step waits in a line of its own, so that a client's whole handshake is not in line twice.
"""

from __future__ import annotations

import collections
import select
from typing import Any

from waitress import wasyncore

from worker_daemon.edge import fair_queue

_ASKING = -1
_HANDSHAKES = 2  # steps of handshakes in one turn, from each queue
_LEFT = 64  # connections whose client has left, which cost little: the same


class Loop(dict[int, Any]):
    """waitress's map of descriptors to what uses them, and the wait for all of them.

    All methods but `changed` belong to the thread of the main loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._waits: dict[int, int] = {}  # what epoll was told, by descriptor
        self._changed: collections.deque[Any] = collections.deque()
        self._lines: tuple[fair_queue.FairQueue[tuple[Any, int]], ...] = (
            fair_queue.FairQueue(),
            fair_queue.FairQueue(),
        )
        self._in_line: set[Any] = set()  # who is in one, and neither closed nor known to epoll

    def __setitem__(self, descriptor: int, user: Any) -> None:
        """Add a user. It is asked at the next turn, not now: it is still being constructed."""
        super().__setitem__(descriptor, user)
        self.changed(user)

    def __delitem__(self, descriptor: int) -> None:
        """Remove a user whose descriptor is about to be closed."""
        self._in_line.discard(self[descriptor])
        super().__delitem__(descriptor)
        if self._waits.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def changed(self, user: Any) -> None:
        """Have `user` asked again at the next turn. Any thread may call this."""
        self._changed.append(user)

    def up_to_date(self, user: Any) -> bool:
        """Say whether `user` waits for what epoll was told. Any thread may call this."""
        return self._waits.get(user._fileno) == _wanted(user)

    def turn(self, timeout: float) -> None:
        """Wait until something has happened, or for `timeout` seconds, and let it be handled."""
        while self._changed:
            self._ask(self._changed.popleft())
        for descriptor, happened in self._epoll.poll(0 if self._in_line else timeout):
            user = self.get(descriptor)
            # What was handled before may have closed it, and given its descriptor to another.
            if user is None or descriptor not in self._waits:
                continue
            step: int | None = getattr(user, "handshake_step", None)
            if step is None:
                self._handle(user, happened)
            else:
                self._put_in_line(self._lines[step], user, happened)
        for line in reversed(self._lines):
            self._shake_some(line)

    def _put_in_line(
        self, line: fair_queue.FairQueue[tuple[Any, int]], user: Any, happened: int
    ) -> None:
        line.add(user.network, (user, happened))
        self._in_line.add(user)
        del self._waits[user._fileno]
        self._epoll.unregister(user._fileno)  # or it would report the same at each turn

    def _shake_some(self, line: fair_queue.FairQueue[tuple[Any, int]]) -> None:
        done = left = 0
        while line and done < _HANDSHAKES and left < _LEFT:
            user, happened = line.take()
            if user not in self._in_line:  # it was closed meanwhile
                continue
            self._in_line.remove(user)
            descriptor = user._fileno
            self._handle(user, happened)
            if self.get(descriptor) is user:
                done += 1
            else:
                left += 1

    def _handle(self, user: Any, happened: int) -> None:
        wasyncore.readwrite(user, happened)
        self._ask(user)

    def ask_all(self) -> None:
        """Ask everybody, should a change ever have gone unnoticed."""
        for user in list(self.values()):
            self._ask(user)

    def close(self) -> None:
        """Let go of the epoll object."""
        self._epoll.close()

    def _ask(self, user: Any) -> None:
        descriptor: int | None = user._fileno
        if descriptor is None or descriptor not in self or self[descriptor] is not user:
            return  # closed meanwhile, and perhaps its descriptor has another user
        if user in self._in_line:
            return
        before = self._waits.get(descriptor)
        if before is not None:  # what changes from here on must not be taken for known
            self._waits[descriptor] = _ASKING
        wanted = _wanted(user)
        if before is None:
            self._epoll.register(descriptor, wanted)
        elif before != wanted:
            self._epoll.modify(descriptor, wanted)
        self._waits[descriptor] = wanted


def _wanted(user: Any) -> int:
    wanted = 0  # a hang-up is told in any case
    if user.readable():
        wanted |= select.EPOLLIN | select.EPOLLPRI
    if user.writable() and not user.accepting:
        wanted |= select.EPOLLOUT
    return wanted
