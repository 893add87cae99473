"""A preallocated file, deleted when the disk is full so that job results can still be recorded.

It is deleted when the end or the removal of a job cannot be recorded for lack of space. From then
on no job is accepted until there is space for a new reserve file: the space that became free is for
the ends of running jobs.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable

from worker_core.disk import files

log = logging.getLogger(__name__)

SIZE = 1 << 20  # bytes: enough for some hundred ends; a removal frees space by itself

FILES = 64  # inodes reserved for running jobs: each needs some until its end is recorded

CURE = "remove finished jobs, or free space on the server's disk"

_NAME = "reserve"
_MIN_FREE = 16 << 20  # bytes on the disk below which `disk_fault` reports it
_FULL = {errno.ENOSPC, errno.EDQUOT}
_LOOK = 1.0  # seconds between two looks whether the file exists


def is_full(error: OSError) -> bool:
    """Return whether an error means that the disk is full."""
    return error.errno in _FULL


def lacks_files(found: os.statvfs_result) -> bool:
    """Return whether so few inodes are free that only running jobs may use them.

    A file system without a fixed number of inodes reports that it has none at all.
    """
    return bool(found.f_files) and found.f_favail < FILES


def disk_fault(path: str) -> str | None:
    """Return what is wrong with the disk under a path, None if there is enough space on it."""
    try:
        found = os.statvfs(path)
    except OSError as error:
        return str(error)
    if found.f_flag & os.ST_RDONLY:
        return f"the file system of {path} is mounted read-only"
    if lacks_files(found):
        return f"only {found.f_favail} more files can be made (inodes)"
    free = found.f_bavail * found.f_frsize
    return None if free >= _MIN_FREE else f"only {free} bytes are free"


def give_up(state_dir: str) -> None:
    """Delete the reserve file, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(state_dir, _NAME))
        log.warning("the disk is full: using the reserve for the ends of jobs; no job is accepted")


class Reserve:
    """The reserve file of one state directory. Any thread may use it."""

    def __init__(self, state_dir: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._state_dir = state_dir
        self._path = os.path.join(state_dir, _NAME)
        self._clock = clock
        self._look_again = 0.0

    def kept(self) -> bool:
        """Return whether the reserve file exists; try to create it if it does not."""
        now = self._clock()
        if now < self._look_again:
            return True
        if self._lacks_files() or not (self._is_there() or self._make()):
            return False
        self._look_again = now + _LOOK
        return True

    def give_up(self) -> None:
        """Delete the reserve file."""
        self._look_again = 0.0
        give_up(self._state_dir)

    def _lacks_files(self) -> bool:
        try:
            return lacks_files(os.statvfs(self._state_dir))
        except OSError:
            return False  # creating a file will report the error

    def _is_there(self) -> bool:
        try:
            return os.stat(self._path).st_size >= SIZE
        except OSError:
            return False

    def _make(self) -> bool:
        try:
            found = os.statvfs(self._state_dir)
            if found.f_bavail * found.f_frsize < 2 * SIZE:  # leave the rest to running jobs
                return False
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, files.PRIVATE_FILE)
            try:
                os.posix_fallocate(fd, 0, SIZE)
            finally:
                os.close(fd)
        except OSError as error:
            log.warning("cannot keep a reserve on the disk: %s", error)
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            return False
        return True
