"""Whether `workerd` could listen where the settings say; for `workerd check`.

A running workerd occupies its own address, which is as it should be. It is recognised by its
certificate, or by its answer to GET /healthz where it has not yet loaded a renewed certificate.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import NamedTuple

from worker_daemon import certificate, errors
from worker_daemon.edge import listeners
from worker_daemon.settings import config, units

_SECONDS = 3.0
_EVERY = {"::": "::1", "0.0.0.0": "127.0.0.1"}  # noqa: S104  # where to reach what listens there


class Finding(NamedTuple):
    """Faults, and what else is worth a line."""

    faults: list[str]
    notes: list[str]


def look(settings: config.Config) -> Finding:
    """Try to listen, and return why that is impossible."""
    address = settings.listen
    try:
        sockets = listeners.open_sockets(address)
    except errors.ListenError as error:
        if is_workerd(settings):
            return Finding([], [f"a running workerd listens on {address}"])
        return Finding([str(error)], [])
    for sock in sockets:
        sock.close()
    return Finding([], [])


def is_workerd(settings: config.Config) -> bool:
    """Return whether a workerd answers at the address of the settings."""
    host = _EVERY.get(settings.listen.host, settings.listen.host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError, ValueError),
        socket.create_connection((host, settings.listen.port), _SECONDS) as plain,
        context.wrap_socket(plain) as tls,
    ):
        own = certificate.load(settings.cert)
        return tls.getpeercert(binary_form=True) in own[:1] or _is_healthy(tls, host)
    return False


def _is_healthy(tls: ssl.SSLSocket, host: str) -> bool:
    tls.sendall(f"GET /healthz HTTP/1.1\r\nHost: {units.Address(host, 0)}\r\n\r\n".encode())
    answer = tls.recv(4096)
    return answer.startswith(b"HTTP/1.1 200 ") and b"x-request-id:" in answer.lower()
