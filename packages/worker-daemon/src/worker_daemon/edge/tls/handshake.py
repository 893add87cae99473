"""The TLS handshake of one connection.

A socket is accepted as a plain one and becomes a TLS socket when a whole first record has arrived.
So a silent client costs a descriptor and nothing else, and a client that speaks plain HTTP gets a
response that it can read.
"""

from __future__ import annotations

import enum
import logging
import socket
import ssl
from collections.abc import Callable

from worker_daemon.edge.http1 import responses
from worker_daemon.edge.tls import client_hello, contexts, openssl

_log = logging.getLogger(__name__)

_ESTABLISHED = 1  # the state of a TCP connection that neither side has closed: linux/tcp_states.h
_HANDSHAKE_RECORD = b"\x16"  # the first byte of a TLS record that carries a handshake


class Outcome(enum.Enum):
    """What a step of the handshake has led to."""

    PENDING = enum.auto()  # a further step is needed, when the socket is ready for it
    DONE = enum.auto()
    REFUSED = enum.auto()  # the client was sent the reason, and should have time to read it
    FAILED = enum.auto()  # close the connection now


def client_has_left(sock: socket.socket) -> bool:
    """Return whether the client sends no more. A handshake would then be wasted work."""
    state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != _ESTABLISHED


class Handshake:
    """Makes a plain socket a TLS one, in steps that never wait. Belongs to the main loop."""

    def __init__(
        self, sock: socket.socket, address: str, context: Callable[[], ssl.SSLContext]
    ) -> None:
        """`context` returns the TLS context, and is called when the client has sent its hello."""
        self.socket = sock  # an SSLSocket once the handshake has `begun`
        self.begun = False
        self.wants_write = False  # the next step needs room to write, not bytes
        self._address = address
        self._context = context
        self._requested = 0  # bytes of the first record that the kernel was asked to wait for

    def step(self) -> Outcome:
        """Go on with what has arrived."""
        if not self.begun:
            try:
                outcome = self._begin()
            except BlockingIOError:
                return Outcome.PENDING
            except OSError:
                return Outcome.FAILED
            if outcome is not Outcome.DONE:
                return outcome
        return self._continue()

    def _begin(self) -> Outcome:
        """Start TLS, or refuse; DONE means that TLS has started."""
        first = self.socket.recv(client_hello.LONGEST, socket.MSG_PEEK)
        if first[:1] == _HANDSHAKE_RECORD:
            if not self._is_whole(first):
                return Outcome.PENDING
            if client_has_left(self.socket):
                return Outcome.FAILED
            if not self._offers_http1(first):
                self.socket.send(client_hello.NO_APPLICATION_PROTOCOL)
                return Outcome.REFUSED
            self._start_tls()
            return Outcome.DONE
        if first[:1].isupper():  # probably the first letter of a method such as GET
            self.socket.send(responses.PLAIN_HTTP)
        return Outcome.REFUSED if first else Outcome.FAILED

    def _is_whole(self, first: bytes) -> bool:
        """Return whether the first record has arrived, or no more of it will.

        Bytes that were only peeked at would wake the loop again at once, so the kernel is asked to
        wait for the rest. It always reports when the client closes.
        """
        needed = min(client_hello.record_length(first), client_hello.LONGEST)
        if needed <= len(first) or self._requested >= needed:
            return True
        self._requested = needed
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
        return False

    def _offers_http1(self, first: bytes) -> bool:
        offered = client_hello.protocols(first)
        if offered is None or contexts.PROTOCOL in offered:
            return True
        self._log_failure("the client does not speak HTTP/1.1")
        return False

    def _start_tls(self) -> None:
        if self._requested:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        wrapped = self._context().wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.socket = wrapped
        openssl.read_record_by_record(wrapped)
        self.begun = True

    def _continue(self) -> Outcome:
        assert isinstance(self.socket, ssl.SSLSocket)
        self.wants_write = False
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            return Outcome.PENDING
        except ssl.SSLWantWriteError:
            self.wants_write = True
            return Outcome.PENDING
        except OSError as error:
            self._log_failure(_reason(error))
            return Outcome.REFUSED
        return Outcome.DONE

    def _log_failure(self, reason: str) -> None:
        _log.info("no TLS handshake: %s", reason, extra={"address": self._address})


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or error).replace("_", " ").lower()
