"""A pair of sockets that holds pidfds: sent into one end, and left unread at the other.

Whoever has the reading end keeps all of them with one descriptor of its own: an engine, or systemd
for a service. A supervisor that is given one looks inside and leaves everything there, so that
whoever comes next can look again.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import uuid
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from worker_core.linux import descriptors

log = logging.getLogger(__name__)

_FORMAT = b"\x01"  # the first byte of a message; then one entry for each pidfd, in their order
_ENTRY = struct.Struct("<16sId")  # the job's id, the leader's pid, when it was started
_SIZE = len(_FORMAT) + descriptors.MOST * _ENTRY.size
_MOST_MESSAGES = 4096
_SO_PEEK_OFF = 42  # socket(7); 42 on every architecture that Python is built for
_BUFFER = 1 << 20  # bytes; the kernel gives less where net.core.wmem_max is lower


@dataclass(frozen=True)
class Held:
    """The leader of a job, as the supervisor that started it knew it."""

    job_id: str
    pid: int
    started_at: float  # Unix seconds


class Bag:
    """One pair of sockets."""

    def __init__(self) -> None:
        """Make an empty one; raises OSError."""
        self._writing, self._reading = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._writing.setblocking(False)
        self._writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    def fileno(self) -> int:
        """Return the descriptor of the reading end."""
        return self._reading.fileno()

    def writing(self) -> int:
        """Return the descriptor of the writing end."""
        return self._writing.fileno()

    def put(self, held: Sequence[Held], pidfds: Sequence[int]) -> None:
        """Put copies of up to 253 pidfds into it; raises BlockingIOError if it is full."""
        entries = [_ENTRY.pack(_packed(each), each.pid, each.started_at) for each in held]
        descriptors.send(self._writing, _FORMAT + b"".join(entries), pidfds)

    def tidy(self, running: Container[str]) -> int:
        """Drop the pidfds of jobs that do not run any more; return how many are left.

        What is left is put in again before the old messages are dropped, so that it is in there at
        every moment. If there is no room for that, it is the other way round.
        """
        left: list[tuple[Held, int]] = []
        messages = 0
        for some in contents(self.fileno()):
            messages += 1
            useful = [pair for pair in some if pair[0].job_id in running]
            descriptors.close(pidfd for _, pidfd in {*some} - {*useful})
            left += useful
        try:
            for at in range(0, len(left), descriptors.MOST):
                chunk = left[at : at + descriptors.MOST]
                messages -= self._put_again(chunk, messages)
            self._drop(messages)
        finally:
            descriptors.close(pidfd for _, pidfd in left)
        return len(left)

    def _put_again(self, chunk: Sequence[tuple[Held, int]], messages: int) -> int:
        """Put in what was in the oldest messages; return how many had to be dropped for that."""
        held, pidfds = [each for each, _ in chunk], [pidfd for _, pidfd in chunk]
        try:
            self.put(held, pidfds)
        except BlockingIOError:
            self._drop(messages)
            self.put(held, pidfds)
            return messages
        return 0

    def _drop(self, messages: int) -> None:
        """Take the oldest messages out. Their descriptors are closed, for want of room for any."""
        for _ in range(messages):
            self._reading.recv(_SIZE, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Let go of it; it exists as long as anybody else has its reading end."""
        self._writing.close()
        self._reading.close()


def contents(descriptor: int) -> Iterator[list[tuple[Held, int]]]:
    """Yield what is in a bag, message by message; the caller gets copies of the pidfds.

    Nothing is taken out. What is not a bag is empty.
    """
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return
    with socket.socket(fileno=os.dup(descriptor)) as bag:
        if (bag.family, bag.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            return
        bag.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
        for _ in range(_MOST_MESSAGES):
            found = _peek(bag)
            if found is None:
                return
            yield found


def _peek(bag: socket.socket) -> list[tuple[Held, int]] | None:
    """Return the next message, None at the end."""
    lowest = os.dup(bag.fileno())
    os.close(lowest)
    descriptors.make_room(lowest, descriptors.MOST)
    flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
    try:
        data, pidfds, cut = descriptors.receive(bag, _SIZE, descriptors.MOST, flags)
    except BlockingIOError:
        return None
    if cut:  # the first ones came, in order
        log.error("no more files may be open: the ends of some jobs may become unknown")
    if not data and not pidfds:
        return None
    body = memoryview(data)[len(_FORMAT) :]
    if data[: len(_FORMAT)] != _FORMAT or len(body) % _ENTRY.size:
        descriptors.close(pidfds)
        return []
    held = [
        Held(str(uuid.UUID(bytes=job_id)), pid, started_at)
        for job_id, pid, started_at in _ENTRY.iter_unpack(body)
    ]
    descriptors.close(pidfds[len(held) :])
    return list(zip(held, pidfds, strict=False))


def _packed(held: Held) -> bytes:
    return uuid.UUID(held.job_id).bytes
