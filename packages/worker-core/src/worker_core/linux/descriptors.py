"""Descriptors sent through a Unix socket (unix(7), SCM_RIGHTS)."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterable, Iterator, Sequence

MOST = 253
"""As many the kernel takes with one message (SCM_MAX_FD)."""


def send(peer: socket.socket, data: bytes | bytearray, descriptors: Sequence[int]) -> int:
    """Send bytes, and copies of descriptors along with them; return how many bytes were sent.

    Without privileges a user may have as many descriptors on their way as the sender's soft limit
    on open files; that is raised for the moment if it is too low.
    """
    try:
        return socket.send_fds(peer, [data], list(descriptors))
    except OSError as error:
        if error.errno != errno.ETOOMANYREFS:
            raise
    with _highest_limit():
        return socket.send_fds(peer, [data], list(descriptors))


def receive(
    peer: socket.socket, size: int, most: int, flags: int = 0
) -> tuple[bytes, list[int], bool]:
    """Return bytes, the descriptors that came along, and whether some of those were dropped.

    They are dropped from the end, when this process may open no more. socket.recv_fds is not used,
    because before Python 3.12 it ignores `flags`, and lets programs inherit the descriptors.
    """
    found = array.array("i")
    room = socket.CMSG_LEN(most * found.itemsize)
    data, ancillary, told, _ = peer.recvmsg(size, room, flags | socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return data, list(found), bool(told & socket.MSG_CTRUNC)


def close(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for each in descriptors:
        os.close(each)


def make_room(used: int, more: int) -> None:
    """Raise the soft limit on open files, if it must be, for `more` of them above number `used`.

    Children inherit it from then on; better than a process that can do nothing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if used + more >= soft != hard:
        wanted = max(soft, used) + 2 * more
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def _highest_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
