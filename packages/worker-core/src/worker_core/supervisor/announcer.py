"""Records in pid.json which process a leader is, and reports the start of its job.

Both happen a moment after the start. Until then the next supervisor finds the leader by the start
log and by its mark, and a shorter job is reported by its end only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from worker_core import failpoints
from worker_core.disk.jobdir import Pid
from worker_core.linux import procfs
from worker_core.supervisor import events
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import RunningJob, logged
from worker_core.wire import Message

log = logging.getLogger(__name__)

_DELAY = 0.02  # seconds


class Announcer:
    """Announces the jobs that have begun."""

    def __init__(self, loop: Loop, emit: Callable[[Message], None]) -> None:
        """`emit` sends a message to all engines."""
        self._loop = loop
        self._emit = emit

    def arm(self, job: RunningJob) -> None:
        """Record the leader and report the start of a job in a moment."""
        job.announcement = self._loop.call_later(_DELAY, lambda: self._announce(job))

    def record(self, job: RunningJob) -> None:
        """Record the leader of a job now, unless that was done before."""
        pid = cast("Pid", job.pid)
        if pid.start_time:
            return
        job.pid = replace(pid, start_time=_start_time(pid.pid))
        with logged(job, "cannot record its pid"):
            job.dir.write_pid(job.pid)
        failpoints.point("supervisor.pid_written")

    def _announce(self, job: RunningJob) -> None:
        self.record(job)
        self._emit(events.started(job))


def _start_time(pid: int) -> int:
    """Return when a process was started; 0, which matches no process, if that cannot be read."""
    try:
        stat = procfs.stat(pid)
    except OSError as error:  # the job runs: it must not look as if it did not
        log.error("cannot read the start time of process %d: %s", pid, error)
        return 0
    return stat.start_time if stat is not None else 0
