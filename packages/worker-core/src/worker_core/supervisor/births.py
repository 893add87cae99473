"""Which process each job began with, noted at its start: a line, until pid.json is written.

That is one write, where pid.json is a file of its own. By the mark alone, which its children have
as well, a leader that has ended could not be told from what it has left behind.
"""

from __future__ import annotations

import contextlib
import os

from worker_core import atomic

_NAME = "supervisor.births"
_FULL = 1 << 18  # bytes; what was noted more than some hundredths of a second ago is in pid.json


class Births:
    """The file of one state directory."""

    def __init__(self, state_dir: str) -> None:
        """Read what was noted, and go on behind it; raises OSError."""
        path = os.path.join(state_dir, _NAME)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, atomic.PRIVATE_FILE)
        noted = atomic.read(path)
        self._size = len(noted)
        self._before = dict(
            line.split(b" ") for line in noted.splitlines() if line.count(b" ") == 1
        )

    def note(self, job_id: str, pid: int) -> None:
        """Note the leader of a job. On a full disk there is the mark to go by."""
        with contextlib.suppress(OSError):
            if self._size > _FULL:
                os.ftruncate(self._file, 0)
                self._size = 0
            self._size += os.write(self._file, b"%s %d\n" % (job_id.encode(), pid))

    def of(self, job_id: str) -> int | None:
        """Return the leader that the supervisor before has noted, None if there is no such line."""
        pid = self._before.get(job_id.encode(), b"")
        return int(pid) if pid.isdigit() else None
