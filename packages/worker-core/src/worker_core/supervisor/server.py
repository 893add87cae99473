"""The supervisor's socket: engines connect, send requests, and hear of every job.

Nothing that an engine does blocks the loop: what it does not read waits in a bounded buffer.
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

_BUFFER_LIMIT = 64 << 20  # bytes; an engine that reads so little is let go, and may ask again
# Bytes of requests, a dozen starts, before others have their turn: a job that has ended waits to be
# reaped, and nobody would know its end if this process were killed now.
_TURN = 4096
_MOST = 1 << 16  # bytes read at once of a request that is longer
_RETRY = 0.1  # seconds
_SHORTAGE = {errno.ENOBUFS, errno.ENOMEM}  # passes: what could not be sent is sent later
_MAX_HELLO = 1 << 16  # bytes
_MAX_CONNECTIONS = 32  # an engine has one, and others are for people who look
_MAX_HELD = 256 << 20  # bytes that wait for all connections together, read in part or not sent
_MOST_ALONG = 16  # descriptors with one message
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


class Connection:
    """One engine that is connected."""

    def __init__(
        self, peer: socket.socket, loop: Loop, server: Server, *, gives_descriptors: bool
    ) -> None:
        """Descriptors are taken only with `gives_descriptors`; to close one can take for ever."""
        self._peer = peer
        self.gives_descriptors = gives_descriptors
        self._loop = loop
        self._server = server
        self._decoder = wire.Decoder(_MAX_HELLO)
        self._out = bytearray()
        self._along: list[int] = []  # to be sent, at the latest with the message that is about them
        self._came: list[int] = []
        self.greeted = False
        self._paused = False
        self._watched = selectors.EVENT_READ
        peer.setblocking(False)
        loop.watch(peer.fileno(), selectors.EVENT_READ, self._ready)

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message, now or when the peer reads; of a descriptor a copy goes along."""
        if descriptor is not None and self._peer.fileno() >= 0:
            self._along.append(os.dup(descriptor))
        self._out += wire.encode(message)
        if len(self._out) > _BUFFER_LIMIT or self._too_much():
            log.error("an engine does not read; closing its connection")
            self.close()
        else:
            self._flush()

    def pause(self) -> None:
        """Read nothing more until `resume`: what was asked takes more than one turn."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Go on reading."""
        if self._paused:
            self._paused = False
            self._watch()

    @property
    def is_open(self) -> bool:
        """Whether somebody is there to be told."""
        return self._peer.fileno() >= 0

    @property
    def held(self) -> int:
        """How many bytes wait: of a message that has come in part, and of what the peer reads."""
        return len(self._decoder) + len(self._out)

    def take(self) -> list[int]:
        """Return the descriptors that have come; the caller closes them."""
        came, self._came = self._came, []
        return came

    def close(self) -> None:
        """Forget the peer."""
        if self._peer.fileno() >= 0:
            descriptors.close(self._along + self.take())
            self._along = []
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
            return self._peer.recv(most)  # the kernel drops descriptors that nobody asks for
        data, came, cut = descriptors.receive(self._peer, most, _MOST_ALONG)
        self._came += came
        if cut:
            log.error("no more files may be open: the ends of some jobs may become unknown")
        return data

    def _too_much(self) -> bool:
        """Return whether this connection has a large part in more than all may hold together."""
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
        if not self._along:
            return self._peer.send(self._out)
        try:
            sent = descriptors.send(self._peer, self._out, self._along)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            log.error("an engine cannot be given what it should keep: %s", error)
            sent = 0
        descriptors.close(self._along)
        self._along = []
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
        """`handle` gets each request; `on_alone` is called when the last engine has gone; `able`
        is what the hello says of this machine; `engine_uid` may connect, as we and root may."""
        self.handle = handle
        self._listener = listener
        self._loop = loop
        self._on_alone = on_alone
        self._able = able
        self._welcome = {os.geteuid(), 0, engine_uid}
        self._connections: set[Connection] = set()
        listener.setblocking(False)
        self._listen()

    @property
    def watched(self) -> bool:
        """Whether an engine is connected."""
        return bool(self._connections)

    @property
    def held(self) -> int:
        """How many bytes wait for all connections together."""
        return sum(each.held for each in self._connections)

    def broadcast(self, message: Message) -> None:
        """Tell every engine."""
        for each in list(self._connections):
            each.send(message)

    def closed(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
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
        except OSError as error:  # it would be ready again at once, and the loop do nothing else
            log.warning("cannot accept a connection now: %s", error)
            self._loop.unwatch(self._listener.fileno())
            self._loop.call_later(_RETRY, self._listen)
            return
        _pid, uid, _gid = _UCRED.unpack(
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if uid not in self._welcome:
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
