"""Writes the end of a job to its directory, before any engine learns of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

from worker_core import failpoints
from worker_core.disk import reserve
from worker_core.disk.jobdir import Exit
from worker_core.supervisor import events
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import RunningJob, logged
from worker_core.wire import Message

log = logging.getLogger(__name__)

_RETRY = 0.1  # seconds between two attempts to write


class ExitRecorder:
    """Records ends; tries again until an end is written."""

    def __init__(
        self,
        state_dir: str,
        loop: Loop,
        groups: Cgroups | None,
        emit: Callable[[Message], None],
        *,
        watched: Callable[[], bool],
        on_recorded: Callable[[RunningJob], None],
    ) -> None:
        """`emit` sends a message to all engines; `watched` returns whether there is an engine.

        `on_recorded` is called once an end is written, before it is emitted.
        """
        self._state_dir = state_dir
        self._loop = loop
        self._groups = groups
        self._emit = emit
        self._watched = watched
        self._on_recorded = on_recorded

    def record(self, job: RunningJob) -> None:
        """Write the end, and forget what only a running job needs.

        The file is synced to the disk only when there is no engine to commit the end to its store.
        """
        end = cast("Exit", job.end)
        try:
            job.dir.write_exit(end, sync=not self._watched())
        except OSError as error:
            log.error("job %s: cannot record its end: %s", job.id, error)
            if reserve.is_full(error):
                reserve.give_up(self._state_dir)
            self._report_unrecorded(job, error.strerror or str(error))
            self._loop.call_later(_RETRY, lambda: self.record(job))
            return
        failpoints.point("supervisor.exit_written")
        with logged(job, "cannot forget it"):
            job.dir.forget()
        if self._groups is not None:
            self._groups.remove(job.id)
        self._on_recorded(job)

    def _report_unrecorded(self, job: RunningJob, why: str) -> None:
        """Report that a leader has ended, once for each reason why that cannot be recorded.

        How it has ended is reported only when it is recorded.
        """
        if job.unrecorded != why:
            job.unrecorded = why
            self._emit(events.unrecorded(job))
