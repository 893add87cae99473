"""Translate the exceptions of requests, urllib3 and ssl into this distribution's errors.

Refusals that the server sends as an answer are translated in `problem_documents`.
"""

from __future__ import annotations

import errno
import ssl
from builtins import ConnectionError as BuiltinConnectionError
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected
from socket import gaierror

import requests
from urllib3.exceptions import IncompleteRead as UrllibIncompleteRead
from urllib3.exceptions import (
    InvalidChunkLength,
    LocationValueError,
    NewConnectionError,
    ProtocolError,
)

from worker_cli import errors, system_limits
from worker_cli.net import address, peers, tls

USUAL_PORT = 8443

# The peer closed the connection during the handshake. Which of the two is raised depends on the
# version of Python.
_CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

# The exceptions that mean a lost connection. They are listed one by one instead of by a base
# class, so that an exception we do not know is not reported as a lost connection.
_LOST = (
    *_CLOSED,
    BadStatusLine,  # the first part of a status line; RemoteDisconnected is a subclass
    BuiltinConnectionError,
    IncompleteRead,
    UrllibIncompleteRead,
    InvalidChunkLength,
    TimeoutError,
    requests.exceptions.ChunkedEncodingError,
)
# Parts of OpenSSL's reasons, or of alerts from the server, that mean incompatible TLS settings.
_INCOMPATIBLE = (
    *("PROTOCOL", "HANDSHAKE_FAILURE", "CIPHER", "INSUFFICIENT_SECURITY", "SIGALG", "SIGNATURE"),
    *("WRONG_SSL_VERSION", "NO_SUITABLE", "UNSUPPORTED"),
)

_NO_NETWORK = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EPROTO)


def from_request(error: Exception, peer: peers.Peer) -> errors.ClientError:
    """Return the error for a request that got no answer, or not a complete one."""
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.ProxyError):
        return errors.ServerUnavailable(_proxy(causes, peer))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return tls.untrusted(cause, peer.server, peer.cacert, direct=peer.proxy is None)
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _CLOSED):
            return _tls(cause, peer)
        if isinstance(cause, gaierror):
            return errors.ServerUnavailable(
                f"cannot reach {peer.server}: "
                f"the name {address.host(peer.server)} is not known ({cause.strerror}); "
                "check the spelling of --server"
            )
        if _is_not_http(cause):
            return peers.not_workerd(peer, "something that is not HTTP")
    return _unanswered(error, causes, peer)


def from_body(error: Exception, peer: peers.Peer) -> errors.ClientError:
    """Return the error for an exception that was raised while the body of an answer was read."""
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.ReadTimeout) or "timed out" in str(error):
        return _too_late(peer)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return peers.not_workerd(peer, "a body that is compressed or encoded")
    if limit_reached := _limit_reached(causes):
        return limit_reached
    # A damaged TLS record counts as a lost connection. A chunked body that ends between two
    # chunks raises a plain ProtocolError.
    cut_off = (ssl.SSLError, ProtocolError)
    if _is_lost(causes) or any(isinstance(cause, cut_off) for cause in causes):
        return peers.connection_lost(peer)
    return _unknown(error, peer)


def unavailable_since(lost: str, unavailable: errors.ServerUnavailable) -> errors.ConnectionLost:
    """Return the error for a server that was lost during a request and cannot be reached since."""
    what = str(unavailable).partition("; ")[0]  # its cure is meant for a wrong address
    return errors.ConnectionLost(f"{lost}; since then {what}")


def _is_not_http(error: BaseException) -> bool:
    """Return whether the bytes received cannot be the beginning of an HTTP answer."""
    if isinstance(error, BadStatusLine):
        return not _may_be_http(error)
    return isinstance(error, HTTPException) and not isinstance(error, IncompleteRead)


def _may_be_http(error: BadStatusLine) -> bool:
    """Return whether the bytes received are the first part of a status line, or none at all."""
    line = str(error)
    begins = line.startswith("HTTP/") or "HTTP/".startswith(line)
    return begins or isinstance(error, RemoteDisconnected)


def _unanswered(
    error: Exception, causes: list[BaseException], peer: peers.Peer
) -> errors.ClientError:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return errors.ServerUnavailable(
            f"cannot reach {peer.server}: no answer to the attempt to connect; "
            "check the address, the network and the server's firewall"
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return _too_late(peer)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return errors.ServerUnavailable(_refused(peer))
    if limit_reached := _limit_reached(causes):
        return limit_reached
    if isinstance(error, requests.exceptions.InvalidURL | LocationValueError | UnicodeError):
        return errors.SettingsError(
            f"cannot connect to {peer.server}: the address is not valid: {_why(error, causes)}; "
            "check the spelling of --server"
        )
    if any(isinstance(cause, NewConnectionError) for cause in causes):
        return errors.ServerUnavailable(f"cannot reach {peer.server}: {_why(error, causes)}")
    return peers.connection_lost(peer) if _is_lost(causes) else _unknown(error, peer)


def _is_lost(causes: list[BaseException]) -> bool:
    """Return whether the exceptions mean that an established connection was lost."""
    return any(
        isinstance(cause, _LOST) or (isinstance(cause, OSError) and cause.errno in _NO_NETWORK)
        for cause in causes
    )


def _limit_reached(causes: list[BaseException]) -> errors.Unreachable | None:
    """Return the error for a limit of this machine, None when no limit was reached."""
    limit = next(filter(None, map(system_limits.explain, causes)), None)
    return errors.Unreachable(f"cannot send the request: {limit}") if limit else None


def _unknown(error: Exception, peer: peers.Peer) -> errors.Unreachable:
    kind = type(error)
    # A ValueError is raised while the request is encoded, before anything is sent.
    sent = (
        "nothing was sent" if isinstance(error, ValueError) else "the server may have received it"
    )
    return errors.Unreachable(
        f"the request to {peer} failed: {error} ({kind.__module__}.{kind.__qualname__}); "
        f"{sent}; --debug shows more"
    )


def _why(error: Exception, causes: list[BaseException]) -> str:
    """Return the innermost reason: the operating system's, if it gave one."""
    system = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return (system[-1].strerror or "") if system else str(error)


def _too_late(peer: peers.Peer) -> errors.ConnectionLost:
    return errors.ConnectionLost(f"{peer} accepted the connection but did not respond in time")


def _refused(peer: peers.Peer) -> str:
    port = address.port(peer.server)
    usual = f" (usually {USUAL_PORT})" if port != USUAL_PORT else ""
    return (
        f"cannot reach {peer.server}: nothing listens there; "
        f"is workerd running, and is {port} its port{usual}?"
    )


def _tls(error: ssl.SSLError, peer: peers.Peer) -> errors.Untrusted:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return errors.Untrusted(
            f"{peer.server} does not speak TLS: the port is wrong, "
            "or the server speaks plain HTTP, which this client never uses"
        )
    if error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return errors.Untrusted(
            f"{peer.server} requires a client certificate; get one from the server's "
            "administrator and set cert and key in config.toml"
        )
    alert = reason.rpartition("alert ")[2]
    if peer.cert and ("certificate" in alert or alert == "unknown ca"):
        return errors.Untrusted(
            f"{peer.server} did not accept the certificate {peer.cert}: {alert}; "
            "ask the server's administrator which CA must sign it (client_ca)"
        )
    why = "its TLS settings and this client's are incompatible"
    if not any(part in (error.reason or "") for part in _INCOMPATIBLE):
        why = "the server's log may say more"
    return errors.Untrusted(f"no secure connection to {peer.server}: {reason}; {why}")


def _proxy(causes: list[BaseException], peer: peers.Peer) -> str:
    # The innermost says most: "Connection refused", "Tunnel connection failed: 407 …".
    system = [cause for cause in causes if isinstance(cause, OSError)]
    why = (system[-1].strerror or str(system[-1])) if system else "it does not answer"
    return (
        f"cannot reach {peer.server} through the proxy {peer.proxy}: {why}; check HTTPS_PROXY, "
        f"or set NO_PROXY={address.host(peer.server)} to connect directly"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those inside it: requests and urllib3 wrap theirs three deep."""
    yield error
    inner = [*error.args, getattr(error, "reason", None), error.__cause__]
    for cause in inner:
        if isinstance(cause, BaseException):
            yield from _causes(cause)
