"""The cap on a job's output: past it, the oldest bytes are given back to the file system.

The job goes on writing at the end of its file and notices nothing; offsets stay true. Readers learn
where the gap ends from start.json, which is written before the hole is made.
"""

from __future__ import annotations

import errno
import logging

from worker_core.supervisor import cap
from worker_core.supervisor.job_table import Processes
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import Process

log = logging.getLogger(__name__)

# Seconds between two looks at a job that writes; at 2 GB/s it is past its cap by 1 GB at most. One
# that has not written lately is looked at less often: a thousand that sleep shall cost nothing.
_INTERVAL = 0.5
_LONGEST = 4  # of these intervals


class Spools:
    """Looks at the spool files of running jobs, as long as any runs."""

    def __init__(self, processes: Processes, loop: Loop) -> None:
        self._processes = processes
        self._loop = loop
        self._armed = False
        self._looks = 0
        self._cannot = {errno.EOPNOTSUPP, errno.ENOSYS}

    def wake(self) -> None:
        """Begin to look, if nobody looks."""
        if not self._armed:
            self._armed = True
            self._loop.call_later(_INTERVAL, self._look)

    def _look(self) -> None:
        self._armed = False
        self._looks += 1
        for process in list(self._processes.jobs.values()):
            if self._looks % process.every:
                continue
            if process.spec.get("output_limit") and process.leader is not None:
                size = self._bound(process)
                process.every = 1 if size != process.size else min(2 * process.every, _LONGEST)
                process.size = size
        if self._processes.jobs:
            self.wake()

    def _bound(self, process: Process) -> int:
        """Apply the cap; return the size of all streams."""
        size = 0
        for stream in process.streams:
            try:
                size += cap.bound(process.dir, stream, process.spec["output_limit"])
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in self._cannot:
                    log.error("job %s: cannot cap its %s: %s", process.id, stream, error)
                    continue
                limit = process.spec["output_limit"]
                reason = (
                    f"its output reached the limit of {limit} bytes and the file system of the "
                    "state directory cannot give the oldest bytes back"
                )
                self._processes.kill(process.id, cause="output_limit", reason=reason)
        return size
