"""Translate what requests raises into this distribution's errors: what happened, and what to do."""

from __future__ import annotations

import errno
import ssl
from builtins import ConnectionError as BuiltinConnectionError
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected
from pathlib import Path
from socket import gaierror

import requests
from urllib3.exceptions import IncompleteRead as UrllibIncompleteRead
from urllib3.exceptions import (
    InvalidChunkLength,
    LocationValueError,
    NewConnectionError,
    ProtocolError,
)

from worker_cli import errors, shortage
from worker_cli.net import address, tls

USUAL_PORT = 8443

# The other side has closed in the middle of a handshake; which one it is depends on the release of
# Python.
_CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

# What a connection that was lost ends in. No base class: a new kind of failure is not one of these.
_LOST = (
    *_CLOSED,
    BadStatusLine,  # the first part of a status line; RemoteDisconnected is one, too
    BuiltinConnectionError,
    IncompleteRead,
    UrllibIncompleteRead,
    InvalidChunkLength,
    TimeoutError,
    requests.exceptions.ChunkedEncodingError,
)
# Of the reasons that OpenSSL gives, or that the server sends as an alert.
_NOTHING_IN_COMMON = (
    *("PROTOCOL", "HANDSHAKE_FAILURE", "CIPHER", "INSUFFICIENT_SECURITY", "SIGALG", "SIGNATURE"),
    *("WRONG_SSL_VERSION", "NO_SUITABLE", "UNSUPPORTED"),
)

_NO_NETWORK = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EPROTO)


@dataclass(frozen=True)
class Peer:
    """The other side of a connection, as far as messages need to know it."""

    server: str
    cacert: Path | None
    proxy: str | None
    """Where requests go instead of straight to the server, without its password."""
    cert: Path | None = None
    """The certificate that this client shows when it is asked for one."""

    def __str__(self) -> str:
        return f"{self.server} (through the proxy {self.proxy})" if self.proxy else self.server


def explain(error: Exception, peer: Peer) -> errors.ClientError:
    """Return the error to raise for a request that brought no whole answer."""
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.ProxyError):
        return errors.Absent(_proxy(causes, peer))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return tls.explain(cause, peer.server, peer.cacert, direct=peer.proxy is None)
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _CLOSED):
            return _tls(cause, peer)
        if isinstance(cause, gaierror):
            return errors.Absent(
                f"cannot reach {peer.server}: "
                f"the name {address.host(peer.server)} is not known ({cause.strerror}); "
                "check the spelling of --server"
            )
        if _is_not_http(cause):
            return not_workerd(peer, "something that is not HTTP")
    return _unanswered(error, causes, peer)


def broken(error: Exception, peer: Peer) -> errors.ClientError:
    """Return the error for an answer that had begun."""
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.ReadTimeout) or "timed out" in str(error):
        return _too_late(peer)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return not_workerd(peer, "a body that is compressed, or encoded in another way,")
    if short := _shortage(causes):
        return short
    # Of TLS, a record that was damaged on its way is as good as lost. A body in chunks that ends
    # between two of them is a ProtocolError of no kind of its own.
    cut_off = (ssl.SSLError, ProtocolError)
    if _is_lost(causes) or any(isinstance(cause, cut_off) for cause in causes):
        return cut_short(peer)
    return _unknown(error, peer)


def _is_not_http(error: BaseException) -> bool:
    """Return whether what came cannot be the beginning of an answer in HTTP."""
    if isinstance(error, BadStatusLine):
        return not _may_be_http(error)
    return isinstance(error, HTTPException) and not isinstance(error, IncompleteRead)


def _may_be_http(error: BadStatusLine) -> bool:
    """Whether what came is the first part of a status line, or nothing at all."""
    line = str(error)
    begins = line.startswith("HTTP/") or "HTTP/".startswith(line)
    return begins or isinstance(error, RemoteDisconnected)


def not_workerd(peer: Peer, what: str) -> errors.Unreachable:
    """Return the error for a peer that answers, but in a way that no workerd does."""
    return errors.Unreachable(
        f"{peer} answered with {what}, which no workerd does; "
        "check the address, and whether a proxy stands in between"
    )


def cut_short(peer: Peer) -> errors.Dropped:
    """Return the error for a connection that was lost before its answer was whole."""
    return errors.Dropped(f"the connection to {peer} was lost before the answer was whole")


def gone_since(dropped: str, absent: errors.Absent) -> errors.Dropped:
    """Return the error for a peer that was lost in a request, and cannot be reached since."""
    what = str(absent).partition("; ")[0]  # its cures are for an address that is wrong
    return errors.Dropped(f"{dropped}; since then {what}")


def _unanswered(error: Exception, causes: list[BaseException], peer: Peer) -> errors.ClientError:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return errors.Absent(
            f"cannot reach {peer.server}: no answer to the attempt to connect; "
            "check the address, the network and the server's firewall"
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return _too_late(peer)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return errors.Absent(_refused(peer))
    if short := _shortage(causes):
        return short
    if isinstance(error, requests.exceptions.InvalidURL | LocationValueError | UnicodeError):
        return errors.SettingsError(
            f"{peer.server} is not an address that can be reached: {_why(error, causes)}; "
            "check the spelling of --server"
        )
    if any(isinstance(cause, NewConnectionError) for cause in causes):
        return errors.Absent(f"cannot reach {peer.server}: {_why(error, causes)}")
    return cut_short(peer) if _is_lost(causes) else _unknown(error, peer)


def _is_lost(causes: list[BaseException]) -> bool:
    """Return whether the connection was there and is not any more, for all that is known."""
    return any(
        isinstance(cause, _LOST) or (isinstance(cause, OSError) and cause.errno in _NO_NETWORK)
        for cause in causes
    )


def _shortage(causes: list[BaseException]) -> errors.Unreachable | None:
    """Return the error for a limit of this machine that was reached, if it was one."""
    reached = next(filter(None, map(shortage.of, causes)), None)
    return errors.Unreachable(f"cannot go on: {reached}") if reached else None


def _unknown(error: Exception, peer: Peer) -> errors.Unreachable:
    what = type(error)
    # A value that cannot be sent is found before anything is.
    sent = (
        "nothing was sent" if isinstance(error, ValueError) else "the server may have received it"
    )
    return errors.Unreachable(
        f"the request to {peer} failed: {error} ({what.__module__}.{what.__qualname__}); "
        f"{sent}; --debug shows more"
    )


def _why(error: Exception, causes: list[BaseException]) -> str:
    """Return the innermost reason: the system's, if it gave one."""
    system = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return (system[-1].strerror or "") if system else str(error)


def _too_late(peer: Peer) -> errors.Dropped:
    return errors.Dropped(f"{peer} took the connection but did not answer in time")


def _refused(peer: Peer) -> str:
    port = address.port(peer.server)
    usual = f" (usually {USUAL_PORT})" if port != USUAL_PORT else ""
    return (
        f"cannot reach {peer.server}: nothing listens there; "
        f"is workerd running, and is {port} its port{usual}?"
    )


def _tls(error: ssl.SSLError, peer: Peer) -> errors.Untrusted:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return errors.Untrusted(
            f"{peer.server} does not speak TLS: another port is meant, "
            "or the server speaks plain HTTP, which is never used"
        )
    if error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return errors.Untrusted(
            f"{peer.server} demands a certificate from its clients; name yours, which whoever "
            "runs the server gives out, with cert and key in config.toml"
        )
    alert = reason.rpartition("alert ")[2]
    if peer.cert and ("certificate" in alert or alert == "unknown ca"):
        return errors.Untrusted(
            f"{peer.server} did not accept the certificate {peer.cert}: {alert}; "
            "whoever runs the server can say which CA has to sign it (client_ca)"
        )
    why = "its TLS settings and this client's have nothing in common"
    if not any(each in (error.reason or "") for each in _NOTHING_IN_COMMON):
        why = "its log may say more"
    return errors.Untrusted(f"no secure connection to {peer.server}: {reason}; {why}")


def _proxy(causes: list[BaseException], peer: Peer) -> str:
    # The innermost says most: "Connection refused", "Tunnel connection failed: 407 …".
    system = [each for each in causes if isinstance(each, OSError)]
    why = (system[-1].strerror or str(system[-1])) if system else "it does not answer"
    return (
        f"cannot reach {peer.server} through the proxy {peer.proxy}: {why}; check HTTPS_PROXY, "
        f"or set NO_PROXY={address.host(peer.server)} to go there directly"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it carries: requests and urllib3 wrap theirs three deep."""
    yield error
    inner = [*error.args, getattr(error, "reason", None), error.__cause__]
    for each in inner:
        if isinstance(each, BaseException):
            yield from _causes(each)
