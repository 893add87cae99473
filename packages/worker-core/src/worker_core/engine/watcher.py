"""Waits for the end of a job, and for changes of an owner's jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from worker_core.engine.feed import Feeds
from worker_core.engine.lifecycle import Lifecycle
from worker_core.model.job import Job
from worker_core.notify import Cancellation
from worker_core.store import records
from worker_core.store.store import Store


class Watcher:
    """The waits of one engine. Each blocks the thread that calls it."""

    def __init__(
        self,
        store: Store,
        jobs: Lifecycle,
        get: Callable[[str], Job],
        check_open: Callable[[], None],
    ) -> None:
        """`get` returns a record; it and `check_open` raise EngineClosed once that is closed."""
        self._store = store
        self._jobs = jobs
        self._get = get
        self._check_open = check_open
        self._feeds = Feeds(self._read, jobs.notifier.change_count)

    def wait(self, job_id: str, timeout: float | None, cancel: Cancellation | None) -> Job:
        """Wait for a job's end; see `Engine.wait`."""
        cancel = cancel or Cancellation()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._jobs.notifier.job_changes(job_id) as subscription, cancel.ending(subscription):
            job = self._get(job_id)
            while not job.state.final and not cancel.requested:
                left = None if deadline is None else deadline - time.monotonic()
                if not subscription.wait(left):
                    return self._jobs.with_reason(job)  # its process may have ended meanwhile
                job = self._get(job_id)
        return job

    def changes(self, owner: str, after: int | None, heartbeat: float) -> Iterator[Sequence[Job]]:
        """Yield the changes of an owner's jobs; see `Engine.changes`."""
        self._check_open()
        start = self._store.jobs.version
        return self._changes(owner, start if after is None else after, heartbeat)

    def _changes(self, owner: str, version: int, heartbeat: float) -> Iterator[Sequence[Job]]:
        notifier, start = self._jobs.notifier, self._store.jobs.version
        with notifier.owner_changes(owner) as subscription, self._feeds.of(owner, start) as feed:
            while True:
                jobs = feed.after(version)
                if jobs:
                    version = jobs[-1].version
                    yield jobs
                elif not subscription.wait(heartbeat):
                    yield ()
                self._check_open()

    def _read(self, owner: str, version: int, limit: int) -> Sequence[Job]:
        with self._store.reading() as db:
            jobs = records.changed(db, owner, version, limit)
        return [self._jobs.with_reason(job) for job in jobs]
