"""One client's connection: TLS below waitress's HTTP.

Two kinds of threads use a connection. The main loop accepts it, reads and parses requests, and
writes the rest of responses. A worker thread runs the application and writes its response
to the socket. An SSL object must not be used by two threads at once, so one lock is held during
each use of it. No use ever waits for the network, so the lock is held for microseconds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from waitress import channel

from worker_daemon import problems
from worker_daemon.auth import throttle
from worker_daemon.edge import deadlines
from worker_daemon.edge.http1 import request_parser, responses
from worker_daemon.edge.phase import Phase
from worker_daemon.edge.tls import client_hello, handshake

_log = logging.getLogger(__name__)
# waitress logs the path of each request whose client has left, which any client can cause.
_waitress_log = logging.getLogger("worker_daemon.edge.waitress")
_waitress_log.setLevel(logging.WARNING)

RECORD = 16384  # the most bytes in a TLS record. A shorter read would leave the rest of a record
# inside the TLS layer, where poll cannot see it; a read of this size never does.
_CHUNK = 128 << 10  # bytes passed to the TLS layer at once
_READ_TURN = 2 * RECORD  # bytes read before other connections have their turn
_WRITE_TURN = 1 << 20  # bytes written before other connections have their turn


class TlsChannel(channel.HTTPChannel):
    """One client's connection. Methods run in the main loop unless they say otherwise."""

    task_class = responses.ResponseWriter
    error_task_class = responses.ErrorWriter
    parser_class = request_parser.RequestParser  # type: ignore[assignment]
    logger = _waitress_log

    requests: Any
    requests_lock: Any
    _map: Any  # the epoll.Loop
    _fileno: Any
    server: Any  # a server.Listener
    socket: Any  # an SSLSocket, once the handshake has begun

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any) -> None:  # noqa: A002
        self._tls = threading.Lock()  # held during each use of self.socket as a TLS one
        self._phase = Phase.NEW
        self._handshake = handshake.Handshake(sock, addr[0], server.context)
        self._read_needs_room = False  # reading needs room to write first, not bytes
        self._unsent = b""  # what the TLS layer took in part, and must be given again unchanged
        self._left = _WRITE_TURN  # bytes that may still be written in this turn
        self._discarded = 0  # bytes that arrived while lingering
        self.served = False  # whether a request was answered
        self._user: str | None = None  # who logged in last
        self.known = False  # whether a login was verified on this connection
        # For each request whose response is not written yet: whether its login is still valid.
        self._logins: set[Callable[[], bool]] = set()
        self._deadlines = deadlines.Deadlines(server.settings, server.draining)
        super().__init__(server, sock, addr, adj, map=map)
        self.sendbuf_len = _CHUNK
        self.network = throttle.network(self.addr[0])
        self.server.came(self)

    def del_channel(self, *args: Any) -> None:
        """Leave the loop, and the groups of connections."""
        self.server.unauthenticated.remove(self)
        self.server.authenticated.remove(self)
        super().del_channel(*args)

    # What the main loop waits for.

    def readable(self) -> bool:
        """Return whether to read what the client sends."""
        if self._phase is Phase.OPEN:
            if self._read_needs_room or self._waits_for_login():
                return False
            return bool(super().readable())
        return self._phase is not Phase.CLOSED and not self._handshake.wants_write

    def writable(self) -> bool:
        """Return whether there is something to write, or the connection is to be closed."""
        if self._phase in (Phase.OPEN, Phase.CLOSED):
            return self._read_needs_room or bool(super().writable())
        return self._handshake.wants_write

    @property
    def handshake_step(self) -> int | None:
        """The next step of the handshake: 0 is the hello, 1 any other, None is no step."""
        if self._phase is Phase.NEW:
            return 0
        return 1 if self._phase is Phase.HANDSHAKE else None

    @property
    def from_known_network(self) -> bool:
        """Whether a user has logged in from the client's network before."""
        return self.network in self.server.known_networks

    def _waits_for_login(self) -> bool:
        """Return whether the last request is without its body until its login is verified."""
        return any(last.withheld for last in self.requests[-1:])

    # Reading.

    def handle_read(self) -> None:
        """Read what has arrived."""
        if self._phase in (Phase.NEW, Phase.HANDSHAKE):
            self._continue_handshake()
        elif self._phase is Phase.OPEN:
            self._read()
        elif self._phase is Phase.LINGERING:
            self._discard()

    def _continue_handshake(self) -> None:
        outcome = self._handshake.step()
        self.socket = self._handshake.socket
        if outcome is handshake.Outcome.PENDING:
            self._phase = Phase.HANDSHAKE if self._handshake.begun else Phase.NEW
        elif outcome is handshake.Outcome.DONE:
            self._phase = Phase.OPEN
            self._deadlines.move()
            self._acknowledge()
            self._read()  # the first request may have arrived with the end of the handshake
        elif outcome is handshake.Outcome.FAILED or not self._close_output():
            self.abandon()

    def _acknowledge(self) -> None:
        """Acknowledge at once what has arrived.

        The server sends nothing after the handshake (others send a session ticket), nor before a
        request is complete. A client without TCP_NODELAY sends its next piece only when the last
        one is acknowledged, and the kernel would delay that for 40 ms.
        """
        with contextlib.suppress(OSError):  # the read that follows reports it
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _read(self) -> None:
        for _ in range(_READ_TURN // RECORD):
            data = self._receive()
            if data is None:
                return
            if not data:
                self.abandon()
                return
            if self.request is None:
                self._deadlines.begin()
            else:
                self._deadlines.move()
            self.received(data)
            if len(data) < RECORD and (self.request is not None or self._waits_for_login()):
                self._acknowledge()
            if len(data) < RECORD or not self.readable():
                return  # epoll reports the next record, also if it has arrived already

    def _receive(self) -> bytes | None:
        """Return bytes; b"" when the client has left, None when there are no bytes yet."""
        with self._tls:
            try:
                data: bytes = self.socket.recv(RECORD)
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLWantWriteError:
                # The TLS layer must answer a key update first, and there is no room for that. Until
                # there is, waiting for bytes would wake the loop again and again.
                self._read_needs_room = True
                return None
            except OSError:
                return b""
            return data

    # Writing.

    def handle_write(self) -> None:
        """Continue the handshake, or write the rest of a response; close if that is due."""
        if self._phase in (Phase.NEW, Phase.HANDSHAKE):
            self._continue_handshake()
        else:
            self._left = _WRITE_TURN
            self._read_needs_room = False
            super().handle_write()

    def write_soon(self, data: Any) -> int:
        """Write, or leave it to the main loop. Runs in a worker thread."""
        self._left = _WRITE_TURN
        return int(super().write_soon(data))

    def send(self, data: bytes, do_close: bool = True) -> int:  # noqa: ARG002 - waitress's signature
        """Pass bytes to the TLS layer; return how many it took. Runs in either thread.

        A broken connection is only marked here. Only the main loop closes it.
        """
        with self._tls:
            if self._phase is not Phase.OPEN or self._left <= 0:
                return 0
            # The TLS layer wants what it took in part again unchanged, even if there is more now.
            chunk = self._unsent or bytes(data)
            self._unsent = b""
            try:
                sent = int(self.socket.send(chunk))
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._unsent = chunk
                return 0
            except OSError:
                self._phase = Phase.CLOSED
                self.will_close = True
                return 0
            self._left -= sent
            self._deadlines.move()
            return sent

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Wait until the client has read enough. Runs in a worker thread.

        A client without a login that reads no responses is disconnected instead, so that it cannot
        make a thread wait.
        """
        if self.known or self.total_outbufs_len <= self.adj.outbuf_high_watermark:
            super()._flush_outbufs_below_high_watermark()  # type: ignore[misc]  # not in the stubs
            return
        self._drop_output()
        self.server.call(self._disconnect)

    def _disconnect(self) -> None:
        if self._map.get(self._fileno) is self:  # otherwise it was closed meanwhile
            self.abandon()

    # Requests.

    def service(self) -> None:
        """Run the next request through the application. Runs in a worker thread."""
        self.server.serving.channel = self
        request = self.requests[0]
        try:
            if request.withheld and self._may_send_body(request):
                self.server.call(functools.partial(self._take_body, request))
            else:
                super().service()
        finally:
            self.server.serving.channel = None
            self.served = True
            self._deadlines.begin()

    def _may_send_body(self, request: Any) -> bool:
        """Return whether to read the body. If not, `request.error` is the reason."""
        try:
            header = request.headers.get("AUTHORIZATION")
            user = self.server.may_send_body(request.command, header, self.addr[0])
            self._set_user(user)
        except Exception as error:  # noqa: BLE001 - the client gets a response, and the log has it
            request.error = problems.of(error)
            if request.error is not error:
                _log.exception("internal error")
            return False
        return True

    def _take_body(self, request: Any) -> None:
        if self._phase is not Phase.OPEN:
            return
        try:
            with self.requests_lock:
                self.requests.remove(request)
                self.request = request
                ahead = request.resume()
            if ahead:
                # A client that has begun to send does not need 100 Continue (RFC 9110, 10.1.1).
                request.expect_continue = False
                self.received(ahead)
            elif request.expect_continue:
                self.send_continue()
        except Exception:  # noqa: BLE001 - as wasyncore does for all other methods
            self.handle_error()
        self._map.changed(self)

    def logged_in(self, user: str, is_valid: Callable[[], bool]) -> None:
        """Take note of the login of the current request. Runs in a worker thread.

        `is_valid` returns later whether the login is still valid.
        """
        if not self.total_outbufs_len:
            self._logins.clear()
        self._logins.add(is_valid)
        self._set_user(user)

    def _set_user(self, user: str) -> None:
        if not self.known:
            self.known = True
            self.server.unauthenticated.remove(self)
            self.server.known_networks.add(self.network)
            self.server.leave_place()
        if user != self._user:
            self._user = user
            self.server.authenticated.add(self, user)
            if self._map.get(self._fileno) is not self:  # it was closed meanwhile
                self.server.authenticated.remove(self)

    def login_ended(self) -> bool:
        """Return whether a response is being sent to a user whose login is not valid any more."""
        # The set has several logins when requests were pipelined.
        return bool(self.total_outbufs_len) and not all(valid() for valid in tuple(self._logins))

    # The end.

    def expired(self, now: float) -> bool:
        """Return whether the client has used up its time; `now` is monotonic."""
        if self._phase in (Phase.NEW, Phase.HANDSHAKE):
            return self._deadlines.handshake_over(now)
        if self._phase is Phase.LINGERING:
            return self._deadlines.lingering_over(now, self._discarded)
        if self.total_outbufs_len:
            return self._deadlines.reading_over(now)
        return not self.requests and self._deadlines.request_over(now, self.request)

    def quiet(self) -> float:
        """Return for how many seconds nothing was read or written."""
        return self._deadlines.quiet(time.monotonic())

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by closing now."""
        if self._phase is Phase.OPEN:
            return not (self.requests or self.request or self.total_outbufs_len)
        return self._phase is not Phase.LINGERING

    def drained(self, now: float) -> bool:
        """Return whether to close now that the server drains. A new client is served once."""
        return self.idle and (self.served or self._deadlines.first_request_over(now))

    def handle_close(self) -> None:
        """Close. A connection that is in order lingers; any other is closed at once."""
        if self._phase is not Phase.OPEN or not self._close_output():
            self.abandon()

    def handle_error(self) -> None:
        """Close after an unexpected error. The loop goes on for all other connections."""
        _log.exception("internal error on a connection of %s", self.addr[0])
        self.break_off()

    def handle_expt(self) -> None:
        """Close: urgent data is not a part of HTTP, and would keep the loop busy."""
        self.abandon()

    def break_off(self) -> None:
        """Close now, without TLS close_notify, so that no response looks complete."""
        self._phase = Phase.CLOSED
        self.abandon()

    def _close_output(self) -> bool:
        """Send close_notify and FIN, and linger. Return whether the client is still there.

        If the server closed at once while the client is still sending, the kernel would send a
        reset, and the client would lose the response with the reason.
        """
        with self._tls:
            try:
                if self._phase is Phase.OPEN:
                    self._send_close_notify()
                self._phase = Phase.LINGERING
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return False
        self._deadlines.begin()
        self._drop_output()
        return True

    def _send_close_notify(self) -> None:
        # After sending it, OpenSSL looks for the client's close_notify, and raises an error if it
        # finds nothing yet, or the rest of a body.
        with contextlib.suppress(ssl.SSLError):
            self.socket.unwrap()

    def _discard(self) -> None:
        try:
            # Bytes as they are on the wire: the TLS layer is not used any more.
            if data := socket.socket.recv(self.socket, 1 << 16):
                self._deadlines.move()
                self._discarded += len(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.abandon()

    def abandon(self) -> None:
        """Close now, whatever is unfinished."""
        self._drop_output()
        if self.request is not None:
            self.request.close()
        with self._tls:  # no worker thread may write to a descriptor that is given back
            phase, self._phase = self._phase, Phase.CLOSED
            with contextlib.suppress(OSError):
                if phase is Phase.OPEN:
                    self._send_close_notify()
                elif phase is Phase.NEW:  # closing with unread bytes would send a reset
                    self.socket.recv(client_hello.LONGEST)
            self.close()

    def _drop_output(self) -> None:
        """Discard what is not written yet, and wake the worker thread that waits to write more."""
        with self.outbuf_lock:
            for buffer in self.outbufs:
                buffer.close()
            self.total_outbufs_len = 0
            self.connected = False
            self.outbuf_lock.notify_all()
