"""What each launcher is working on, in memory that the supervisor shares with it.

A launcher notes a start before it does anything for it, and an end before it takes the exit status
from the kernel. So the supervisor knows exactly what a launcher had not reported when it was
killed, even if that was between two steps.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass

_START = struct.Struct("=B36sd")  # stage, id of the job, monotonic time
_END = struct.Struct("=qq36s")  # pid, wait status and job of a leader that has ended
_SIZE = _START.size + _END.size

IDLE = 0
PREPARING = 1  # nothing has been made yet that could be the job's process
SPAWNING = 2


@dataclass(frozen=True)
class Held:
    """What one launcher is working on: a start at some stage, since when (monotonic time), and the
    end of a leader (pid 0: of none) with the id of its job."""

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
        self._at = number * _SIZE
        self.note(IDLE)
        self.note_end(0, 0)

    def note(self, stage: int, job_id: str = "") -> None:
        """Note the start that is worked on; IDLE is none."""
        _START.pack_into(self._memory, self._at, stage, job_id.encode(), time.monotonic())

    def note_spawning(self) -> None:
        """Note that the process of that start may exist from now on."""
        self._memory[self._at] = SPAWNING

    def note_end(self, pid: int, status: int, job_id: str = "") -> None:
        """Note which leader's exit status is being taken and reported; pid 0 is none."""
        _END.pack_into(self._memory, self._at + _START.size, pid, status, job_id.encode())

    def read(self) -> Held:
        """Return what is noted."""
        stage, job_id, since = _START.unpack_from(self._memory, self._at)
        pid, status, ended = _END.unpack_from(self._memory, self._at + _START.size)
        return Held(stage, _text(job_id), since, pid, status, _text(ended))


class Slots:
    """The notes of all launchers; made before the first launcher is forked."""

    def __init__(self, most: int) -> None:
        self._memory = mmap.mmap(-1, most * _SIZE)  # shared with every forked process
        self._free = list(range(most))

    def take(self) -> Slot:
        """Return a free slot; raises IndexError if there is none."""
        return Slot(self._memory, self._free.pop())

    def give_back(self, slot: Slot) -> None:
        """Make the slot of a dead launcher free again."""
        self._free.append(slot.number)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()
