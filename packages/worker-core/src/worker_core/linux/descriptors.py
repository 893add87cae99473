"""Sends and receives descriptors through a Unix socket (unix(7), SCM_RIGHTS)."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterable, Iterator, Sequence

MOST = 253
"""The most descriptors that the kernel accepts with one message (SCM_MAX_FD)."""


def send(peer: socket.socket, data: bytes | bytearray, descriptors: Sequence[int]) -> int:
    """Send bytes together with copies of descriptors; return how many bytes were sent.

    An unprivileged user may have as many descriptors in transit as the sender's soft limit on open
    files. If that is too low, the limit is raised during the call.
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
    """Return bytes, the descriptors that came with them, and whether descriptors were dropped.

    The kernel drops the last ones when this process may open no more files. socket.recv_fds is not
    used: before Python 3.12 it ignores `flags`, so that child processes inherit the descriptors.
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
    """Raise the soft limit on open files if needed, for `more` descriptors above number `used`.

    Children then inherit the raised limit. That is better than a process that cannot open files.
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
