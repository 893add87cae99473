"""One start as one datagram. One that is too large is sent as a file without a name (memfd)."""

from __future__ import annotations

import marshal
import os
import socket
from dataclasses import dataclass
from typing import Any

_MOST = 60_000  # bytes of a datagram: a socket's buffer may hold no more than 200,000
_ROOM = 1 << 16


@dataclass(frozen=True)
class Start:
    """One start that was received, also as the bytes that it came in."""

    job_id: str
    spec: dict[str, Any]
    data: bytes


def encode(job_id: str, spec: dict[str, Any]) -> bytes:
    """Return a start as bytes, for a fork of this process."""
    return marshal.dumps((job_id, spec))


def decode(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return what `encode` was given."""
    job_id, spec = marshal.loads(data)  # noqa: S302  # from ourselves
    return job_id, spec


def send(peer: socket.socket, job_id: str, data: bytes) -> None:
    """Send a start; raises OSError, BlockingIOError while there is no room."""
    if len(data) <= _MOST:
        peer.send(data)
        return
    fd = os.memfd_create("start", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        socket.send_fds(peer, [encode(job_id, {})], [fd])
    finally:
        os.close(fd)


class TornError(OSError):
    """The file of a large start could not be received; nothing of the job has begun."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__("its start cannot be read: no descriptor is free")


def receive(peer: socket.socket) -> Start | None:
    """Receive a start; None if no more will come.

    Raises BlockingIOError if none is there now, TornError if it is lost.
    """
    data, fds, flags, _ = socket.recv_fds(peer, _ROOM, 1)
    if not data:
        return None
    job_id, spec = decode(data)
    if fds:
        try:
            size = os.fstat(fds[0]).st_size
            data = b""
            while len(data) < size:
                data += os.pread(fds[0], size - len(data), len(data))
        finally:
            os.close(fds[0])
        job_id, spec = decode(data)
    elif not spec or flags & socket.MSG_CTRUNC:
        raise TornError(job_id)
    return Start(job_id, spec, data)
