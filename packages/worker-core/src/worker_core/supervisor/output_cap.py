"""The cap on a job's output: if the output is larger, its oldest bytes are deleted.

The job continues to write at the end of its file, and all offsets stay the same. The first
byte that is kept is written to start.json before the hole is made, so that readers know where the
gap ends.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Mapping

from worker_core.disk.jobdir import JobDir
from worker_core.linux import libc
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import RunningJob

log = logging.getLogger(__name__)

_BLOCK = 1 << 16  # bytes; a hole ends at a multiple of this
# Seconds between two looks at a job that writes; a job that writes 2 GB/s exceeds its cap by 1 GB
# at most. A job that has not written lately is looked at less often, so that a thousand sleeping
# jobs cost nothing.
_INTERVAL = 0.5
_LONGEST = 4  # of these intervals
_CANNOT_PUNCH = {errno.EOPNOTSUPP, errno.ENOSYS}


class OutputCap:
    """Looks at the output of running jobs, as long as there are any."""

    def __init__(
        self, loop: Loop, jobs: Mapping[str, RunningJob], stop: Callable[[RunningJob, str], None]
    ) -> None:
        """`stop(job, reason)` ends a job whose output cannot be capped."""
        self._loop = loop
        self._jobs = jobs
        self._stop = stop
        self._armed = False
        self._looks = 0

    def wake(self) -> None:
        """Start looking, unless that goes on already."""
        if not self._armed:
            self._armed = True
            self._loop.call_later(_INTERVAL, self._look)

    def apply_at_end(self, job: RunningJob) -> None:
        """Apply the cap to a job that has ended; a short job may end between two looks."""
        limit = job.spec.get("output_limit") or 0
        for stream in job.streams if limit else ():
            with contextlib.suppress(OSError):
                cap(job.dir, stream, limit)

    def _look(self) -> None:
        self._armed = False
        self._looks += 1
        for job in list(self._jobs.values()):
            if self._looks % job.looks_apart:
                continue
            if job.spec.get("output_limit") and job.leader is not None:
                size = self._apply(job)
                grown = size != job.output_size
                job.looks_apart = 1 if grown else min(2 * job.looks_apart, _LONGEST)
                job.output_size = size
        if self._jobs:
            self.wake()

    def _apply(self, job: RunningJob) -> int:
        """Apply the cap; return the size of all streams."""
        size = 0
        limit = job.spec["output_limit"]
        for stream in job.streams:
            try:
                size += cap(job.dir, stream, limit)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in _CANNOT_PUNCH:
                    log.error("job %s: cannot cap its %s: %s", job.id, stream, error)
                    continue
                reason = (
                    f"its output reached the limit of {limit} bytes and the file system of the "
                    "state directory cannot give the oldest bytes back"
                )
                self._stop(job, reason)
        return size


def cap(directory: JobDir, stream: str, limit: int) -> int:
    """Keep the newest `limit` bytes of a stream and little more; return the stream's size."""
    size = directory.stream_size(stream)
    starts = directory.starts() if size > limit else {}
    start = (size - limit) // _BLOCK * _BLOCK
    if start <= starts.get(stream, 0):
        return size
    directory.write_start(starts | {stream: start})
    fd = directory.open_stream(stream, flags=0)
    try:
        libc.punch_hole(fd, 0, start)
    finally:
        os.close(fd)
    return size
