"""What each launcher has in hand, in memory that the supervisor can still read when it is dead.

A launcher notes a start before it does anything for it, and an end before it takes the exit status
from the kernel. What it had not told yet is then known exactly, whenever it is ended.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass

# Stage, id of the job, monotonic time; pid, wait status and job of a leader that has ended.
_FORM = struct.Struct("=B36sdqq36s")

IDLE = 0
PREPARING = 1  # nothing that could be the job's process has been made
SPAWNING = 2


@dataclass(frozen=True)
class Held:
    """What one launcher has in hand: a start at some stage, since when (monotonic time), and an end
    (pid 0 is none) with the job whose leader it was."""

    stage: int
    job_id: str
    since: float
    pid: int
    status: int
    ended: str = ""


class Slot:
    """The note of one launcher."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory = memory
        self.number = number
        self._at = number * _FORM.size
        self.note(IDLE)

    def note(self, stage: int, job_id: str = "") -> None:
        """Note the start in hand; IDLE is none."""
        held = self.read()
        since = held.since if stage == SPAWNING else time.monotonic()
        values = stage, job_id.encode(), since, held.pid, held.status, held.ended.encode()
        _FORM.pack_into(self._memory, self._at, *values)

    def note_end(self, pid: int, status: int, job_id: str = "") -> None:
        """Note whose exit status is being taken and told; pid 0 is nobody's."""
        held = self.read()
        values = held.stage, held.job_id.encode(), held.since, pid, status, job_id.encode()
        _FORM.pack_into(self._memory, self._at, *values)

    def read(self) -> Held:
        """Return what is noted."""
        stage, job_id, since, pid, status, ended = _FORM.unpack_from(self._memory, self._at)
        return Held(stage, _text(job_id), since, pid, status, _text(ended))


class Slots:
    """The notes of all launchers; made before the first of them is forked."""

    def __init__(self, most: int) -> None:
        self._memory = mmap.mmap(-1, most * _FORM.size)  # shared with what is forked
        self._free = list(range(most))

    def take(self) -> Slot:
        """Return a slot that nobody uses; raises IndexError if there is none."""
        return Slot(self._memory, self._free.pop())

    def give_back(self, slot: Slot) -> None:
        """Take a slot back whose launcher is dead."""
        self._free.append(slot.number)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()
