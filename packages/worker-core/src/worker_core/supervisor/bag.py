"""A bag: a pair of sockets that holds pidfds. They are sent into one end and never received.

A process that keeps the reading end open keeps all pidfds in the bag open. Each engine does so, and
for a service systemd does. A supervisor that gets a reading end copies the pidfds and leaves them
in the bag, so that the next supervisor can do the same.
"""

from __future__ import annotations

import contextlib
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
        descriptors.send(self._writing, _FORMAT + b"".join(map(_packed, held)), pidfds)

    def drop_ended(self, running: Container[str]) -> int:
        """Drop messages, from the oldest on, until one has a job that runs.

        Return how many were dropped.
        """
        self._reading.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, -1)  # peek at the oldest one
        dropped = 0
        with contextlib.suppress(BlockingIOError):  # the bag is empty
            while True:
                data = self._reading.recv(_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                if any(held.job_id in running for held in _unpacked(data)):
                    break
                self._drop(1)
                dropped += 1
        return dropped

    def tidy(self, running: Container[str]) -> int:
        """Drop the pidfds of jobs that do not run any more; return how many are left.

        The pidfds of running jobs are put in again before the old messages are dropped, so that the
        bag has them at every moment. If there is no room for that, old messages are dropped first.
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
        """Put pidfds of the oldest messages in again; return how many messages were dropped to make
        room."""
        held, pidfds = [each for each, _ in chunk], [pidfd for _, pidfd in chunk]
        try:
            self.put(held, pidfds)
        except BlockingIOError:
            self._drop(messages)
            self.put(held, pidfds)
            return messages
        return 0

    def _drop(self, messages: int) -> None:
        """Take the oldest messages out; the kernel closes descriptors that are not received."""
        for _ in range(messages):
            self._reading.recv(_SIZE, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close both ends; the bag exists as long as another process has its reading end."""
        self._writing.close()
        self._reading.close()


def contents(descriptor: int) -> Iterator[list[tuple[Held, int]]]:
    """Yield the contents of a bag, message by message, with copies of the pidfds.

    Nothing is taken out. A descriptor that is not a bag has no contents.
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
    held = _unpacked(data)
    descriptors.close(pidfds[len(held) :])
    return list(zip(held, pidfds, strict=False))


def _packed(held: Held) -> bytes:
    return _ENTRY.pack(bytes.fromhex(held.job_id.replace("-", "")), held.pid, held.started_at)


def _unpacked(data: bytes) -> list[Held]:
    """Return the entries of a message; none if it is not one of ours."""
    body = memoryview(data)[len(_FORMAT) :]
    if data[: len(_FORMAT)] != _FORMAT or len(body) % _ENTRY.size:
        return []
    return [
        Held(str(uuid.UUID(bytes=job_id)), pid, started_at)
        for job_id, pid, started_at in _ENTRY.iter_unpack(body)
    ]
