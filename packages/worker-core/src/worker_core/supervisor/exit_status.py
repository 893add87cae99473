"""How an adopted leader ended. It is not a child of this supervisor.

The kernel reports an exit status to the parent. When the supervisor of a leader dies, init or a
subreaper becomes the leader's parent. Other processes can then read the status in two ways:

    until the parent has reaped it    the leader is a zombie, and /proc/PID/stat has the status
    afterwards                        a pidfd that was opened before still has it (Linux 6.15)

Both are used only on kernels that have the second one. Older kernels may report 0 in /proc for a
leader whose first thread ended before its other threads. On these the end stays unknown.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from worker_core.disk.jobdir import Pid
from worker_core.linux import libc, procfs
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import RunningJob

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two looks at a zombie
_PATIENCE = 30.0  # seconds until a zombie whose status we may not read counts as unknown
# Errors of the ioctl on kernels that do not report the status of a reaped process.
_UNKNOWN = {errno.ENOTTY, errno.EINVAL, errno.ESRCH}


class UnknownStatusError(Exception):
    """The exit status cannot be known; the message says why."""


@dataclass(frozen=True)
class Ending:
    """How and when an adopted leader ended."""

    status: int | None  # as wait(2) gives it; None if it cannot be known
    why: str  # the reason if the status cannot be known
    at: float  # Unix seconds
    monotonic: float
    seen: bool  # the leader was watched when it ended; otherwise `at` is when that was noticed


def wait_status(pidfd: int, pid: Pid) -> int | None:
    """Return the wait status of a process that has ended, None if it cannot be read yet.

    Raises UnknownStatusError if it never can.
    """
    try:
        status = libc.wait_status(pidfd)
    except OSError as error:
        raise UnknownStatusError(_why(error)) from error
    return procfs.wait_status(pid.pid, pid.start_time) if status is None else status


def has_ended(pidfd: int) -> bool:
    """Return whether all threads of a process have ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


class ExitWatch:
    """Watches adopted leaders, and reports how each of them ended."""

    def __init__(self, loop: Loop, report: Callable[[RunningJob, Ending], None]) -> None:
        self._loop = loop
        self._report = report

    def add(self, job: RunningJob) -> None:
        """Watch the leader of a job by its pidfd; it may have ended already."""
        pidfd = cast("int", job.pidfd)
        if has_ended(pidfd):
            job.gone = True
            self._loop.call_later(0.0, lambda: self._ended(job, seen=False))
            return
        self._loop.watch(pidfd, selectors.EVENT_READ, lambda _: self._unwatch(job))

    def _unwatch(self, job: RunningJob) -> None:
        job.gone = True
        self._loop.unwatch(cast("int", job.pidfd))
        self._ended(job, seen=True)

    def _ended(self, job: RunningJob, *, seen: bool) -> None:
        clock = self._loop.clock
        unknown = Ending(None, "nobody has reaped it", clock.now(), clock.monotonic(), seen)
        self._look(job, unknown, _FIRST_PAUSE)

    def _look(self, job: RunningJob, ending: Ending, pause: float) -> None:
        """Report the end once its status is known, or once it is certain that it cannot be."""
        pidfd = cast("int", job.pidfd)
        status, why = None, ending.why
        try:
            status = wait_status(pidfd, cast("Pid", job.pid))
        except UnknownStatusError as error:
            why = str(error)
        else:
            if status is None and self._loop.clock.monotonic() < ending.monotonic + _PATIENCE:
                longer = min(2 * pause, _LONGEST_PAUSE)
                self._loop.call_later(pause, lambda: self._look(job, ending, longer))
                return
        job.pidfd = None
        os.close(pidfd)
        at, monotonic, seen = ending.at, ending.monotonic, ending.seen
        self._report(job, Ending(status, why, at, monotonic, seen))


def _why(error: OSError) -> str:
    if error.errno in _UNKNOWN:
        return (
            "the supervisor that started it had ended, and only Linux 6.15 and later then report "
            f"an exit status (this is {os.uname().release})"
        )
    return f"the supervisor that started it had ended: {error.strerror}"
