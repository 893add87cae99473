"""How far the start of each job has come, noted in a file: until pid.json is written.

A note is one write, where pid.json is a file of its own. There are three for a job, a line each:

    <id> -      it is claimed: whoever reads this as the last one knows that it was never forked
    <id> ?      it is about to be forked
    <id> <pid>  which process it began with

By the mark alone, which its children have as well, a leader that has ended could not be told from
what it has left behind.
"""

from __future__ import annotations

import contextlib
import os

from worker_core.disk import files, jobdir

_NAME = "supervisor.births"
_FULL = 1 << 18  # bytes; what was noted more than some hundredths of a second ago is in pid.json
_BOOT = b"boot"
_CLAIMED, _FORKING = b"-", b"?"


class StartLog:
    """The file of one state directory."""

    def __init__(self, state_dir: str) -> None:
        """Read what was noted, and go on behind it; raises OSError."""
        path = os.path.join(state_dir, _NAME)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, files.PRIVATE_FILE)
        noted = files.read(path)
        self._size = len(noted)
        self._boot = jobdir.boot_id().encode()
        self._before: dict[bytes, bytes] = {}
        self._never_forked: set[bytes] = set()
        last_boot = b""
        for line in noted.splitlines():
            if line.count(b" ") != 1:
                continue
            name, value = line.split(b" ")
            last_boot = value if name == _BOOT else last_boot
            self._learn(name, value, surviving=last_boot == self._boot)
        if last_boot != self._boot:
            self._note_boot()

    def _learn(self, job_id: bytes, value: bytes, *, surviving: bool) -> None:
        """Take what was noted; after a crash of the machine, later notes may be missing."""
        self._before[job_id] = value
        if value == _CLAIMED and surviving:
            self._never_forked.add(job_id)
        else:
            self._never_forked.discard(job_id)

    def claimed(self, job_id: str) -> None:
        """Note that a job is claimed, and not forked."""
        self._never_forked.discard(job_id.encode())  # which was about an earlier try
        with contextlib.suppress(OSError):  # then it counts as perhaps forked
            self._write(job_id.encode(), _CLAIMED)

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file

    def forking(self, job_id: str) -> None:
        """Note that a job may have been forked from now on; raises OSError.

        Launchers call this and `note`, so the file is not cut there: its length is not known.
        """
        self._append(job_id.encode(), _FORKING)

    def note(self, job_id: str, pid: int) -> None:
        """Note the leader of a job. On a full disk there is the mark to go by."""
        with contextlib.suppress(OSError):
            self._append(job_id.encode(), b"%d" % pid)

    def _write(self, name: bytes, value: bytes) -> None:
        if self._size > _FULL:  # without what launchers have noted, at most two lines for each
            os.ftruncate(self._file, 0)
            self._size = 0
            self._note_boot()
        self._size += self._append(name, value)

    def _append(self, name: bytes, value: bytes) -> int:
        line = b"%s %s\n" % (name, value)
        written = os.write(self._file, line)
        if written < len(line):
            raise OSError(f"only {written} bytes of a note were written")
        return written

    def _note_boot(self) -> None:
        with contextlib.suppress(OSError):
            self._size += os.write(self._file, b"\n%s %s\n" % (_BOOT, self._boot))

    def of(self, job_id: str) -> int | None:
        """Return the leader that the supervisor before has noted, None if there is no such line."""
        pid = self._before.get(job_id.encode(), b"")
        return int(pid) if pid.isdigit() else None

    def never_forked(self, job_id: str) -> bool:
        """Return whether the supervisor before has claimed a job and then certainly not forked."""
        return job_id.encode() in self._never_forked
