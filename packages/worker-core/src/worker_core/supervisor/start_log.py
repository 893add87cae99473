"""An append-only log of how far the start of each job has come; valid until pid.json is written.

A note is one write, where pid.json is a file of its own. There are three notes for a job, a line
each:

    <id> -      it is claimed: if this is the last note, the job was never forked
    <id> ?      it is about to be forked
    <id> <pid>  this process is its leader

The mark alone is not enough: the children of a leader that has ended have the same mark.
"""

from __future__ import annotations

import contextlib
import os

from worker_core.disk import files, jobdir

_NAME = "supervisor.births"  # as releases before called this log
_FULL = 1 << 18  # bytes; notes older than some hundredths of a second are in pid.json
_BOOT = b"boot"
_CLAIMED, _FORKING = b"-", b"?"


class StartLog:
    """The start log of one state directory."""

    def __init__(self, state_dir: str) -> None:
        """Read the notes of the previous supervisor, and append to them; raises OSError."""
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
            self._learn(name, value, this_boot=last_boot == self._boot)
        if last_boot != self._boot:
            self._note_boot()

    def _learn(self, job_id: bytes, value: bytes, *, this_boot: bool) -> None:
        """Take a note of the previous supervisor into account.

        After a crash of the machine the notes that followed it may be missing.
        """
        self._before[job_id] = value
        if value == _CLAIMED and this_boot:
            self._never_forked.add(job_id)
        else:
            self._never_forked.discard(job_id)

    def claimed(self, job_id: str) -> None:
        """Note that a job is claimed and not forked."""
        self._never_forked.discard(job_id.encode())  # that note was about an earlier start
        with contextlib.suppress(OSError):  # without the note the job counts as perhaps forked
            self._write(job_id.encode(), _CLAIMED)

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file

    def forking(self, job_id: str) -> None:
        """Note that a job may have been forked from now on; raises OSError.

        Launchers call this and `note`. They do not know the length of the file, so only the
        supervisor truncates it.
        """
        self._append(job_id.encode(), _FORKING)

    def note(self, job_id: str, pid: int) -> None:
        """Note the leader of a job. If the disk is full, the mark is enough to find the leader."""
        with contextlib.suppress(OSError):
            self._append(job_id.encode(), b"%d" % pid)

    def _write(self, name: bytes, value: bytes) -> None:
        if self._size > _FULL:  # beside it, launchers have written at most two lines for each line
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

    def leader(self, job_id: str) -> int | None:
        """Return the leader that was noted before this supervisor began, None if there is none."""
        pid = self._before.get(job_id.encode(), b"")
        return int(pid) if pid.isdigit() else None

    def never_forked(self, job_id: str) -> bool:
        """Return whether the previous supervisor claimed a job and certainly did not fork it."""
        return job_id.encode() in self._never_forked
