"""What each connection waits for, and the wait for all of them at once.

waitress asks each connection before each wait what it waits for. With five hundred clients that
follow output, this would be most of what the server does. Here the answers are kept in an epoll
object. A connection is asked again only when something has happened to it.

A step of a TLS handshake takes as long as several requests. A client can cause hundreds of them at
the same moment without any work of its own, by sending a recorded hello on many connections. So
each turn of the loop does only a few steps, and the networks take turns. The other connections
wait in a queue. The first steps and the later ones have separate queues, so that the handshake of
a client waits only once for all the clients that have just begun. So have the networks from which
users have logged in and all others, because an attacker may have hundreds of networks.

For the same reasons each turn serves only some of the connections without a login. A client that
sends single bytes on a thousand connections would otherwise make each turn take a thousand reads.
"""

from __future__ import annotations

import collections
import random
import select
from typing import Any

from waitress import wasyncore

from worker_daemon.edge.shares import fair_queue

_ASKING = -1
_HANDSHAKES = 2  # steps of handshakes in one turn, from each queue
_STRANGERS = 32  # connections without a login that are served in one turn
_LEAVING = select.EPOLLRDHUP  # what a connection in a queue waits for: its client closes


class Loop(dict[int, Any]):
    """waitress's map from descriptors to the objects that use them, and the wait for all of them.

    All methods but `changed` and `up_to_date` belong to the thread of the main loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._waits: dict[int, int] = {}  # the events that epoll looks for, by descriptor
        self._changed: collections.deque[Any] = collections.deque()
        # By whether a user has logged in from the network, and whether the first step is done.
        self._queues: dict[tuple[bool, bool], fair_queue.FairQueue[Any]] = {
            (known, begun): fair_queue.FairQueue()
            for begun in (True, False)
            for known in (True, False)
        }
        self._queued: dict[Any, tuple[tuple[bool, bool], int]] = {}  # queue and events of each

    def __setitem__(self, descriptor: int, user: Any) -> None:
        """Add a user. It is asked in the next turn, because it is still being constructed."""
        super().__setitem__(descriptor, user)
        self.changed(user)

    def __delitem__(self, descriptor: int) -> None:
        """Remove a user that is about to close its descriptor."""
        user = self[descriptor]
        if user in self._queued:
            queue, _ = self._queued.pop(user)
            self._queues[queue].discard(user.network, user)
        super().__delitem__(descriptor)
        if self._waits.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def changed(self, user: Any) -> None:
        """Ask `user` again in the next turn. Any thread may call this."""
        self._changed.append(user)

    def up_to_date(self, user: Any) -> bool:
        """Return whether epoll looks for what `user` waits for. Any thread may call this."""
        return self._waits.get(user._fileno) == _wanted(user)

    def turn(self, timeout: float) -> None:
        """Wait until something happens, at most `timeout` seconds, and have it handled."""
        while self._changed:
            self._ask(self._changed.popleft())
        strangers: dict[bool, list[tuple[Any, int]]] = {True: [], False: []}
        for descriptor, events in self._epoll.poll(0 if self._queued else timeout):
            user = self.get(descriptor)
            # An earlier event may have closed it, and its descriptor may have a new user.
            if user is None or descriptor not in self._waits:
                continue
            if user in self._queued:  # its client has left; a handshake would be wasted work
                user.handle_close()
            elif getattr(user, "handshake_step", None) is not None:
                self._put_in_queue(user, events)
            elif getattr(user, "known", True):
                self._handle(user, events)
            else:
                strangers[user.from_known_network].append((user, events))
        for ready in strangers.values():
            self._serve_some(ready)
        for queue in self._queues.values():
            self._do_handshakes(queue)

    def _serve_some(self, ready: list[tuple[Any, int]]) -> None:
        """Handle the events of some connections. epoll reports those of the others again."""
        if len(ready) > _STRANGERS:
            ready = random.sample(ready, _STRANGERS)
        for user, events in ready:
            if self.get(user._fileno) is user:  # otherwise it was closed meanwhile
                self._handle(user, events)

    def _put_in_queue(self, user: Any, events: int) -> None:
        queue = (user.from_known_network, user.handshake_step > 0)
        self._queued[user] = (queue, events)
        self._queues[queue].add(user.network, user)
        # Otherwise epoll would report the same events again in each turn.
        self._epoll.modify(user._fileno, _LEAVING)
        self._waits[user._fileno] = _LEAVING

    def _do_handshakes(self, queue: fair_queue.FairQueue[Any]) -> None:
        for _ in range(_HANDSHAKES):
            if queue:
                user = queue.take()
                _, events = self._queued.pop(user)
                self._handle(user, events)

    def _handle(self, user: Any, events: int) -> None:
        wasyncore.readwrite(user, events)
        self._ask(user)

    def ask_all(self) -> None:
        """Ask all users again, in case that a change was not noticed."""
        for user in list(self.values()):
            self._ask(user)

    def close(self) -> None:
        """Close the epoll object."""
        self._epoll.close()

    def _ask(self, user: Any) -> None:
        descriptor: int | None = user._fileno
        if descriptor is None or descriptor not in self or self[descriptor] is not user:
            return  # it was closed meanwhile, and its descriptor may have a new user
        if user in self._queued:
            return
        before = self._waits.get(descriptor)
        if before is not None:  # a change from here on must not look as if epoll knew of it
            self._waits[descriptor] = _ASKING
        wanted = _wanted(user)
        if before is None:
            self._epoll.register(descriptor, wanted)
        elif before != wanted:
            self._epoll.modify(descriptor, wanted)
        self._waits[descriptor] = wanted


def _wanted(user: Any) -> int:
    wanted = 0  # epoll reports a hang-up in any case
    if user.readable():
        wanted |= select.EPOLLIN | select.EPOLLPRI
    if user.writable() and not user.accepting:
        wanted |= select.EPOLLOUT
    return wanted
