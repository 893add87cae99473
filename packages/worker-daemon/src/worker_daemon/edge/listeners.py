"""Open the sockets on which the daemon listens."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from worker_daemon import errors
from worker_daemon.settings import units

_BACKLOG = 1024


def resolve(address: units.Address) -> list[str]:
    """Return the IP addresses of a host name or address, each one once.

    Raises ListenError if there is none.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise errors.ListenError(f"cannot listen on {address}: {error.strerror or error}") from None
    except UnicodeError:
        raise errors.ListenError(f"cannot listen on {address}: that is not a host name") from None
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def open_sockets(address: units.Address) -> list[socket.socket]:
    """Listen on every address of the host, all on the same port; raises ListenError."""
    port = address.port
    with contextlib.ExitStack() as stack:
        sockets = []
        hosts = resolve(address)
        for host in hosts:
            try:
                sock = stack.enter_context(_listen(host, port, alone=len(hosts) == 1))
            except OSError as error:
                raise errors.ListenError(
                    f"cannot listen on {units.Address(host, port)}: {error.strerror}{_cure(error)}"
                ) from None
            port = sock.getsockname()[1]
            sockets.append(sock)
        stack.pop_all()
        return sockets


def addresses(sockets: Iterable[socket.socket]) -> list[str]:
    """Return the IP addresses that sockets listen on."""
    return [sock.getsockname()[0] for sock in sockets]


def _listen(host: str, port: int, *, alone: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # If "::" is the only address, its socket accepts IPv4 connections, too.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not alone)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _cure(error: OSError) -> str:
    import errno

    return {
        errno.EADDRINUSE: "; another program listens there, or another workerd",
        errno.EACCES: "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "; it is not an address of this machine",
    }.get(error.errno or 0, "")
