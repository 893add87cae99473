"""Ends jobs on request, and sends signals: records the request, then passes it to the executor."""

from __future__ import annotations

import functools
import logging

from worker_core import failpoints
from worker_core.clock import Clock
from worker_core.disk.jobdir import JobDir
from worker_core.engine import rebuild
from worker_core.engine.lifecycle import Lifecycle
from worker_core.executor import Executor
from worker_core.model import signals
from worker_core.model.errors import JobNotRunning, StoreUnavailable
from worker_core.model.job import Change, Job
from worker_core.model.kill import KillRequest
from worker_core.model.state import Event, IllegalTransition, State
from worker_core.store.store import Store

log = logging.getLogger(__name__)


class KillSender:
    """The kills and signals of one engine. Any thread may use it."""

    def __init__(
        self,
        state_dir: str,
        store: Store,
        executor: Executor,
        jobs: Lifecycle,
        *,
        clock: Clock,
        durable: bool,
    ) -> None:
        """With `durable`, a kill request is also written to the job's directory."""
        self._state_dir = state_dir
        self._store = store
        self._executor = executor
        self._jobs = jobs
        self._clock = clock
        self._durable = durable

    def request(self, job_id: str, request: KillRequest) -> None:
        """Record a request and send it; raise JobNotRunning if the job has ended already."""
        change = Change(Event.KILL, self._clock.now(), kill=request)
        record = functools.partial(self._jobs.dependents.change, job_id=job_id, change=change)
        try:
            try:
                self._store.write(record, self._send).result()
            except StoreUnavailable:
                # The job itself may be what fills the disk: end it now and record that later. A
                # queued job could start after a crash, so its kill is refused.
                stopping = self._store.job(job_id).after(change)
                if stopping.state.final:
                    raise
                self._store.post((record, self._jobs.notifier.publish))
                self._send(stopping)
        except IllegalTransition:
            raise JobNotRunning(self._store.job(job_id)) from None

    def signal(self, job: Job, signal: str | int) -> None:
        """Send a signal to a job's whole tree; raise JobNotRunning or InvalidRequest."""
        signum = signals.number(signal)
        if job.state not in (State.RUNNING, State.STOPPING):
            raise JobNotRunning(job)
        self._executor.signal(job.id, signum)

    def _send(self, job: Job) -> None:
        """Act on a kill that is in the record; called after the commit."""
        self._note(job)
        if job.state.final:  # it was queued
            self._jobs.changed(job)
            return
        self._jobs.notifier.publish(job)
        self._jobs.kill(job)
        failpoints.point("engine.after_kill_sent")

    def _note(self, job: Job) -> None:
        """Write the request to the job's directory, in case the database is lost."""
        if not self._durable:
            return
        try:
            JobDir(self._state_dir, job.id).write_wish(rebuild.wish(job))
        except OSError as error:
            log.warning("job %s: cannot write who asked for its end: %s", job.id, error)


def outcome(job: Job) -> Job:
    """Return a job that was to be killed; raise JobNotRunning if it ended by itself before."""
    if job.state in (State.COMPLETED, State.FAILED):
        raise JobNotRunning(job)
    return job
