"""The supervisor's socket: engines connect, send requests and get the events of all jobs.

No engine can block the loop: messages that it does not read wait in a bounded buffer.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import struct
from collections.abc import Callable

from worker_core import wire
from worker_core.linux import descriptors
from worker_core.supervisor import requests
from worker_core.supervisor.loop import Loop
from worker_core.wire import Message

log = logging.getLogger(__name__)

_BUFFER_LIMIT = 64 << 20  # bytes; an engine that leaves more unread is disconnected
# Bytes of requests, about a dozen starts, that are read before others have their turn. Jobs that
# have ended wait to be reaped, and their ends would be lost if this process were killed now.
_TURN = 4096
_MOST = 1 << 16  # bytes of a longer request that are read at once
_RETRY = 0.1  # seconds
_SHORTAGE = {errno.ENOBUFS, errno.ENOMEM}  # it passes; the message is sent later
_MAX_HELLO = 1 << 16  # bytes
_MAX_CONNECTIONS = 32  # each engine has one
_MAX_HELD = 256 << 20  # bytes that all connections hold together, half read or not sent
_MOST_DESCRIPTORS = 16  # with one message
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


class Connection:
    """One engine that is connected."""

    def __init__(
        self, peer: socket.socket, loop: Loop, server: Server, *, gives_descriptors: bool
    ) -> None:
        """Descriptors are accepted only with `gives_descriptors`: closing one can hang."""
        self._peer = peer
        self.gives_descriptors = gives_descriptors
        self._loop = loop
        self._server = server
        self._decoder = wire.Decoder(_MAX_HELLO)
        self._out = bytearray()
        self._unsent: list[int] = []  # descriptors, sent not later than the message about them
        self._received: list[int] = []  # descriptors
        self.greeted = False
        self._paused = False
        self._watched = selectors.EVENT_READ
        peer.setblocking(False)
        loop.watch(peer.fileno(), selectors.EVENT_READ, self._ready)

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message, and a copy of a descriptor, now or when the peer reads."""
        if descriptor is not None and self._peer.fileno() >= 0:
            self._unsent.append(os.dup(descriptor))
        self._out += wire.encode(message)
        if len(self._out) > _BUFFER_LIMIT or self._too_much():
            log.error("an engine does not read; closing its connection")
            self.close()
        else:
            self._flush()

    def pause(self) -> None:
        """Read nothing more until `resume`: a request takes more than one turn of the loop."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Go on reading."""
        if self._paused:
            self._paused = False
            self._watch()

    @property
    def is_open(self) -> bool:
        """Whether the peer is still connected."""
        return self._peer.fileno() >= 0

    @property
    def held(self) -> int:
        """The bytes that are held: of a message that is half read, and of messages not sent."""
        return len(self._decoder) + len(self._out)

    def take(self) -> list[int]:
        """Return the descriptors that were received; the caller closes them."""
        received, self._received = self._received, []
        return received

    def close(self) -> None:
        """Disconnect."""
        if self._peer.fileno() >= 0:
            descriptors.close(self._unsent + self.take())
            self._unsent = []
            self._loop.unwatch(self._peer.fileno())
            self._peer.close()
            self._out.clear()
            self._server.closed(self)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self._peer.fileno() >= 0:
            self._read()

    def _read(self) -> None:
        try:
            data = self._receive(min(max(_TURN, self._decoder.missing), _MOST))
            messages = self._decoder.feed(data)
        except BlockingIOError:
            return
        except (OSError, MemoryError, wire.ProtocolError) as error:
            log.warning("closing a connection: %s", error)
            self.close()
            return
        for message in messages:
            self._take(message)
        if not data or self._too_much():
            self.close()

    def _receive(self, most: int) -> bytes:
        if not self.gives_descriptors:
            return self._peer.recv(most)  # which makes the kernel drop descriptors
        data, received, cut = descriptors.receive(self._peer, most, _MOST_DESCRIPTORS)
        self._received += received
        if cut:
            log.error("no more files may be open: the ends of some jobs may become unknown")
        return data

    def _too_much(self) -> bool:
        """Return whether all connections hold too much together, and this one much of it."""
        return self.held > _MAX_HELD // _MAX_CONNECTIONS and self._server.held > _MAX_HELD

    def _take(self, message: Message) -> None:
        try:
            if not self.greeted:
                self.greeted = message.get("hello") == "worker"
                self._decoder.most = requests.MAX_REQUEST if self.greeted else _MAX_HELLO
            else:
                self._server.handle(message, self)
        except Exception:
            log.exception("cannot handle a request: %s", requests.shown(message.get("op")))

    def _flush(self) -> None:
        try:
            while self._out and self._peer.fileno() >= 0:
                del self._out[: self._send_some()]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _SHORTAGE:
                self.close()
                return
        self._watch()

    def _watch(self) -> None:
        descriptor = self._peer.fileno()
        if descriptor < 0:
            return
        events = 0 if self._paused else selectors.EVENT_READ
        events |= selectors.EVENT_WRITE if self._out else 0
        if events == self._watched:
            return
        self._watched = events
        if events:
            self._loop.watch(descriptor, events, self._ready)
        else:
            self._loop.unwatch(descriptor)

    def _send_some(self) -> int:
        if not self._unsent:
            return self._peer.send(self._out)
        try:
            sent = descriptors.send(self._peer, self._out, self._unsent)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            log.error("cannot give an engine the pidfds that it should keep: %s", error)
            sent = 0
        descriptors.close(self._unsent)
        self._unsent = []
        return sent


class Server:
    """Listens on the socket and keeps the connections."""

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        handle: Callable[[Message, Connection], None],
        *,
        on_alone: Callable[[], None],
        able: Message,
        engine_uid: int,
    ) -> None:
        """`handle` gets each request; `on_alone` is called when the last engine has gone.

        `able` is what the hello says about this machine. `engine_uid` may connect, besides root and
        our own account.
        """
        self.handle = handle
        self._listener = listener
        self._loop = loop
        self._on_alone = on_alone
        self._able = able
        self._allowed_uids = {os.geteuid(), 0, engine_uid}
        self._connections: set[Connection] = set()
        listener.setblocking(False)
        self._listen()

    @property
    def watched(self) -> bool:
        """Whether an engine is connected."""
        return bool(self._connections)

    @property
    def held(self) -> int:
        """The bytes that all connections hold together."""
        return sum(each.held for each in self._connections)

    def broadcast(self, message: Message) -> None:
        """Send a message to all engines."""
        for each in list(self._connections):
            each.send(message)

    def closed(self, connection: Connection) -> None:
        """Take note that a connection was closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._on_alone()

    def _listen(self) -> None:
        self._loop.watch(self._listener.fileno(), selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            peer, _address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # without a pause the loop would do nothing else
            log.warning("cannot accept a connection now: %s", error)
            self._loop.unwatch(self._listener.fileno())
            self._loop.call_later(_RETRY, self._listen)
            return
        _pid, uid, _gid = _UCRED.unpack(
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if uid not in self._allowed_uids:
            log.warning("refused a connection from uid %d", uid)
            peer.close()
            return
        if len(self._connections) >= _MAX_CONNECTIONS:
            log.warning("refused a connection: %d are open", _MAX_CONNECTIONS)
            peer.close()
            return
        gives = uid == os.geteuid()
        connection = Connection(peer, self._loop, self, gives_descriptors=gives)
        self._connections.add(connection)
        connection.send(wire.hello(pid=os.getpid(), able=self._able))
