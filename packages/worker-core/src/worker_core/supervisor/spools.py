"""The cap on a job's output: past it, the oldest bytes are given back to the file system.

The job goes on writing at the end of its file and notices nothing; offsets stay true. Readers learn
where the gap ends from start.json, which is written before the hole is made.
"""

from __future__ import annotations

import errno
import logging

from worker_core import jobdir
from worker_core.supervisor import cap
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.process import Process
from worker_core.supervisor.processes import Processes

log = logging.getLogger(__name__)

_INTERVAL = 0.5  # seconds; a job that writes 2 GB/s is past its cap by 1 GB at most


class Spools:
    """Looks at the spool files of running jobs, as long as any runs."""

    def __init__(self, processes: Processes, loop: Loop) -> None:
        self._processes = processes
        self._loop = loop
        self._armed = False
        self._cannot = {errno.EOPNOTSUPP, errno.ENOSYS}

    def wake(self) -> None:
        """Begin to look, if nobody looks."""
        if not self._armed:
            self._armed = True
            self._loop.call_later(_INTERVAL, self._look)

    def _look(self) -> None:
        self._armed = False
        for process in list(self._processes.jobs.values()):
            if process.spec.get("output_limit") and process.leader is not None:
                self._bound(process)
        if self._processes.jobs:
            self.wake()

    def _bound(self, process: Process) -> None:
        for stream in jobdir.STREAMS:
            try:
                cap.bound(process.dir, stream, process.spec["output_limit"])
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
