"""A connection: TLS below waitress's HTTP.

waitress gives a connection two kinds of threads. The main loop accepts, reads, parses, and writes
what is left over; a task thread runs the application and writes its answer straight into the
socket. An SSL object must not be used by both at once, so one lock is around each use of it; no
use ever waits for the network, so the lock is held for microseconds.

The socket is accepted plain, and becomes a TLS one when its first byte is there: a connection that
says nothing costs a descriptor and nothing else, and one that speaks plain HTTP can be told what
is wrong.
"""

from __future__ import annotations

import contextlib
import enum
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
from worker_daemon.edge import client_hello, openssl, tls
from worker_daemon.edge.http1 import request_reader, responses
from worker_daemon.settings import config

_log = logging.getLogger(__name__)

RECORD = 16384  # the most a TLS record carries. A shorter read would leave the rest of the record
# inside the TLS layer, where poll cannot see it; a read this long never does.
_CHUNK = 128 << 10  # bytes handed to the TLS layer at once
_TURN = 1 << 20  # bytes read or written before the others have their turn
_LINGER = 5.0  # seconds for the other side to read the last answer
_LINGER_DRAINING = 1.0  # the same, while the daemon ends
_FIRST_DRAINING = 2.0  # seconds for the first request on a connection, while the daemon ends
_LEAST_RATE = 1000  # bytes per second; a body that is slower for long is a trick
_CLOSE_WAIT = 8  # state of a TCP connection that the client has ended: linux/tcp_states.h
_HANDSHAKE = b"\x16"  # the type of a TLS record that carries a handshake


class Phase(enum.Enum):
    """How far a connection has come."""

    SILENT = enum.auto()  # nothing has arrived yet
    SHAKING = enum.auto()  # the TLS handshake is under way
    OPEN = enum.auto()  # requests and answers
    PARTING = enum.auto()  # all is said; what still arrives is thrown away until the other closes
    GONE = enum.auto()  # broken or closed


class TlsChannel(channel.HTTPChannel):
    """One client's connection. Methods run in the main loop unless they say otherwise."""

    task_class = responses.Answer
    error_task_class = responses.Refusal
    parser_class = request_reader.RequestReader  # type: ignore[assignment]

    requests: Any
    requests_lock: Any
    _map: Any  # the loop.Loop
    _fileno: Any
    server: Any  # a server.Listener
    socket: Any  # an SSLSocket, once the first byte is there

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._tls = threading.Lock()  # around each use of self.socket as a TLS one
        self._phase = Phase.SILENT
        self._awaited = 0  # bytes of the first record that the kernel was asked to wait for
        self._read_writes = False  # reading waits for room to write, not for bytes
        self._handshake_writes = False  # the handshake waits for room to write, not for bytes
        self._unsent = b""  # what the TLS layer holds in part, and wants again in full
        self._left = _TURN
        self._discarded = 0  # bytes that came after all was said
        self._served = False
        self.known = False  # whether a login was verified here
        self._logins: set[Callable[[], bool]] = set()  # whose answers are not all written yet
        self._since = self._moved = self._begun = time.monotonic()
        super().__init__(*args, **kwargs)
        self.sendbuf_len = _CHUNK
        self.network = throttle.network(self.addr[0])
        self.server.came(self)

    def del_channel(self, *args: Any) -> None:
        """Leave the loop, and the count of connections without a login."""
        self.server.unauthenticated.remove(self)
        super().del_channel(*args)

    # What the main loop waits for.

    def readable(self) -> bool:
        """Say whether bytes from the client are wanted now."""
        if self._phase is Phase.OPEN:
            if self._read_writes or any(last.withheld for last in self.requests[-1:]):
                return False
            return bool(super().readable())
        return self._phase is not Phase.GONE and not self._handshake_writes

    def writable(self) -> bool:
        """Say whether there is something to write, or to close."""
        if self._phase in (Phase.OPEN, Phase.GONE):
            return self._read_writes or bool(super().writable())
        return self._handshake_writes

    @property
    def handshake_step(self) -> int | None:
        """Which step of the TLS handshake comes next: 0 is the hello, 1 all others."""
        if self._phase is Phase.SILENT:
            return 0
        return 1 if self._phase is Phase.SHAKING else None

    # Reading.

    def handle_read(self) -> None:
        """Take what has arrived."""
        if self._phase is Phase.SILENT:
            self._begin()
        elif self._phase is Phase.SHAKING:
            self._shake()
        elif self._phase is Phase.OPEN:
            self._read()
        elif self._phase is Phase.PARTING:
            self._discard()

    def _begin(self) -> None:
        """Begin the handshake, or refuse what is not one, once enough has arrived to tell."""
        try:
            first = self.socket.recv(client_hello.LONGEST, socket.MSG_PEEK)
            if first[:1] == _HANDSHAKE:
                if not self._hello_is_whole(first):
                    return
                if self._has_left():
                    first = b""
                elif not self._may_shake(first):
                    self.socket.send(client_hello.NO_APPLICATION_PROTOCOL)
                else:
                    self._start_tls()
            elif first[:1].isupper():  # it may well be the first letter of GET
                self.socket.send(responses.PLAIN_HTTP)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if self._phase is Phase.SHAKING:
            self._shake()
        elif not first or not self._part():
            self.abandon()

    def _hello_is_whole(self, first: bytes) -> bool:
        """Return whether to go on: the first record is there, or no more of it will come.

        What was only looked at would wake the loop again at once; so the kernel is asked to wait
        for the rest. It reports the end of what the client sends in any case.
        """
        needed = min(client_hello.record_length(first), client_hello.LONGEST)
        if needed <= len(first) or self._awaited >= needed:
            return True
        self._awaited = needed
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
        return False

    def _has_left(self) -> bool:
        """Return whether the client sends no more: then a handshake would be work for nobody."""
        state: int = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state == _CLOSE_WAIT

    def _may_shake(self, first: bytes) -> bool:
        offered = client_hello.protocols(first)
        if offered is None or tls.PROTOCOL in offered:
            return True
        _log.info("no TLS handshake with %s: it does not speak HTTP/1.1", self.addr[0])
        return False

    def _start_tls(self) -> None:
        if self._awaited:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self.socket = self.server.context().wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        openssl.read_record_by_record(self.socket)
        self._phase = Phase.SHAKING

    def _shake(self) -> None:
        with self._tls:
            self._handshake_writes = False
            try:
                self.socket.do_handshake()
                self._phase = Phase.OPEN
                self._acknowledge()
            except ssl.SSLWantReadError:
                return
            except ssl.SSLWantWriteError:
                self._handshake_writes = True
                return
            except OSError as error:
                _log.info("no TLS handshake with %s: %s", self.addr[0], _why(error))
        self._moved = time.monotonic()
        if self._phase is Phase.OPEN:
            self._read()  # the first request may have come along
        elif not self._part():
            self.abandon()

    def _acknowledge(self) -> None:
        """Acknowledge at once what has arrived.

        The server does not send anything after the handshake (a session ticket would be the usual
        thing), nor before a request is whole. A client without TCP_NODELAY sends its next piece
        only when the last one is acknowledged, which the kernel would put off for 40 ms.
        """
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _read(self) -> None:
        for _ in range(_TURN // RECORD):
            data = self._receive()
            if data is None:
                return
            if not data:
                self.abandon()
                return
            self._moved = time.monotonic()
            if self.request is None:
                self._begun = self._moved
            self.received(data)
            if len(data) < RECORD and self._awaits_more():
                self._acknowledge()
            if len(data) < RECORD or not self.readable():
                return  # the next record, if it is there already, is told by epoll

    def _awaits_more(self) -> bool:
        return self.request is not None or any(last.withheld for last in self.requests[-1:])

    def _receive(self) -> bytes | None:
        """Return bytes, or none when the client has left, or None when there are none yet."""
        with self._tls:
            try:
                data: bytes = self.socket.recv(RECORD)
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLWantWriteError:
                # The TLS layer has to answer a key update first. Only room to write helps: until
                # then a look at what has arrived would wake the loop again at once.
                self._read_writes = True
                return None
            except OSError:
                return b""
            return data

    # Writing.

    def handle_write(self) -> None:
        """Go on with the handshake, or write what is left over; close what is to be closed."""
        if self._phase is Phase.SHAKING:
            self._shake()
        else:
            self._left = _TURN
            self._read_writes = False
            super().handle_write()

    def write_soon(self, data: Any) -> int:
        """Write, or leave it to the main loop. Runs in a task thread."""
        self._left = _TURN
        return int(super().write_soon(data))

    def send(self, data: bytes, do_close: bool = True) -> int:  # noqa: ARG002 - waitress's signature
        """Give bytes to the TLS layer; return how many it took. Runs in either thread.

        A broken connection is only marked: the main loop closes it, and nobody else does.
        """
        with self._tls:
            if self._phase is not Phase.OPEN or self._left <= 0:
                return 0
            # What was refused must come again exactly as it was, even if there is more by now.
            chunk = self._unsent or bytes(data)
            self._unsent = b""
            try:
                sent = int(self.socket.send(chunk))
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._unsent = chunk
                return 0
            except OSError:
                self._phase = Phase.GONE
                self.will_close = True
                return 0
            self._left -= sent
            self._moved = time.monotonic()
            return sent

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Wait until the client has read enough. Runs in a task thread.

        A client without a login that reads no answers is cut off, and keeps no thread waiting.
        """
        if self.known or self.total_outbufs_len <= self.adj.outbuf_high_watermark:
            super()._flush_outbufs_below_high_watermark()  # type: ignore[misc]  # not in the stubs
            return
        self._drop_output()
        self.server.call(self._cut_off)

    def _cut_off(self) -> None:
        if self._map.get(self._fileno) is self:  # else it was closed meanwhile
            self.abandon()

    def service(self) -> None:
        """Run the next request through the application. Runs in a task thread."""
        self.server.serving.channel = self
        request = self.requests[0]
        try:
            if request.withheld and self._admits(request):
                self.server.call(functools.partial(self._take_body, request))
            else:
                super().service()
        finally:
            self.server.serving.channel = None
            self._served = True
            self._moved = self._begun = time.monotonic()

    def _admits(self, request: Any) -> bool:
        """Say whether a body is taken; else the request is to be refused as its `error` says."""
        try:
            header = request.headers.get("AUTHORIZATION")
            self.server.admit(request.command, header, self.addr[0])
            self._now_known()
        except Exception as error:  # noqa: BLE001 - it is answered, and logged
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
                # Who has begun needs no invitation (RFC 9110, 10.1.1).
                request.expect_continue = False
                self.received(ahead)
            elif request.expect_continue:
                self.send_continue()
        except Exception:  # noqa: BLE001 - as wasyncore does, which calls all other methods
            self.handle_error()
        self._map.changed(self)

    # The end.

    def expired(self, now: float) -> bool:
        """Say whether the client has used up its time, `now` in monotonic seconds."""
        limits: config.Config = self.server.settings
        quiet = now - self._moved
        if self._phase in (Phase.SILENT, Phase.SHAKING):
            return now - self._since > limits.handshake_timeout
        if self._phase is Phase.PARTING:
            # Who still sends a body reads the answer only then; it need not be a whole one.
            linger = _LINGER_DRAINING if self.server.draining.is_set() else _LINGER
            more = self._discarded / _LEAST_RATE if self._discarded <= limits.max_body else 0
            return quiet > linger or now - self._begun > linger + more
        if self.total_outbufs_len:
            return quiet > limits.body_timeout
        if self.requests:
            return False
        request: Any = self.request
        if request is None:
            return quiet > limits.idle_timeout
        taken = now - self._begun
        if not request.headers_finished:
            return taken > limits.header_timeout
        allowed: float = limits.body_timeout + request.body_bytes_received / _LEAST_RATE
        return quiet > limits.body_timeout or taken > allowed

    def logged_in(self, stands: Callable[[], bool]) -> None:
        """Note the login of the request that is served. Runs in a task thread.

        `stands` says later on whether the login still counts.
        """
        if not self.total_outbufs_len:
            self._logins.clear()
        self._logins.add(stands)
        self._now_known()

    def _now_known(self) -> None:
        if not self.known:
            self.known = True
            self.server.unauthenticated.remove(self)
            self.server.leave_place()

    def barred(self) -> bool:
        """Say whether an answer is on its way to somebody whose login counts no more."""
        # Others than the one served now are in the set when requests were sent ahead.
        return bool(self.total_outbufs_len) and not all(each() for each in tuple(self._logins))

    def break_off(self) -> None:
        """Close now, without a farewell: what was sent must not look like a whole answer."""
        self._phase = Phase.GONE
        self.abandon()

    def quiet(self) -> float:
        """Return for how many seconds nothing has moved."""
        return time.monotonic() - self._moved

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by closing now."""
        if self._phase is Phase.OPEN:
            return not (self.requests or self.request or self.total_outbufs_len)
        return self._phase is not Phase.PARTING

    def spent(self, now: float) -> bool:
        """Whether to close now that the daemon ends; who has just come is served first."""
        return self.idle and (self._served or now - self._since > _FIRST_DRAINING)

    def handle_close(self) -> None:
        """Close: with a farewell when the connection is in order, at once when it is not."""
        if self._phase is not Phase.OPEN or not self._part():
            self.abandon()

    def handle_error(self) -> None:
        """Close after an error that nobody foresaw: the loop goes on for all others."""
        _log.exception("internal error on a connection of %s", self.addr[0])
        self.break_off()

    def handle_expt(self) -> None:
        """Close: urgent data is no part of HTTP, and would keep the loop busy."""
        self.abandon()

    def _part(self) -> bool:
        """Say that nothing more will come, and let the other side read what has come.

        Closing at once would reset the connection while the client is still sending, and take
        the answer that says why with it. Returns whether the other side is still there.
        """
        with self._tls:
            try:
                if self._phase is Phase.OPEN:
                    self._say_goodbye()
                self._phase = Phase.PARTING
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return False
        self._moved = self._begun = time.monotonic()
        self._drop_output()
        return True

    def _say_goodbye(self) -> None:
        # Once ours is sent it looks for the other side's goodbye, and complains of what it finds
        # instead: nothing yet, or the rest of a body.
        with contextlib.suppress(ssl.SSLError):
            self.socket.unwrap()

    def _discard(self) -> None:
        try:
            # Bytes as they are on the wire: the TLS layer has no more to say.
            if data := socket.socket.recv(self.socket, 1 << 16):
                self._moved = time.monotonic()
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
        with self._tls:  # no task thread may be writing to a descriptor that is given away
            phase, self._phase = self._phase, Phase.GONE
            with contextlib.suppress(OSError):
                if phase is Phase.OPEN:
                    self._say_goodbye()
                elif phase is Phase.SILENT:  # bytes that nobody has read would be a reset
                    self.socket.recv(client_hello.LONGEST)
            self.close()

    def _drop_output(self) -> None:
        """Give up what is not written yet, and wake the task that waits to write more."""
        with self.outbuf_lock:
            for buffer in self.outbufs:
                buffer.close()
            self.total_outbufs_len = 0
            self.connected = False
            self.outbuf_lock.notify_all()


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or error).replace("_", " ").lower()
