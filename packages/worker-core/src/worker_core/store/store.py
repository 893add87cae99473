"""The store: the database, the jobs in it, and the thread that writes them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from worker_core import failpoints
from worker_core.model.errors import EngineClosed
from worker_core.model.job import Job
from worker_core.store import records
from worker_core.store.database import Database
from worker_core.store.group_commit import GroupCommit, PendingWrite
from worker_core.store.jobs import JobTable

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_CHECK_SECONDS = 2.0


class Store:
    """One database file. All methods may be called from any thread."""

    def __init__(
        self,
        path: str,
        *,
        durable: bool = True,
        may_create: bool = True,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        """Open or create it, bringing its schema to this version.

        `on_full` is called when the disk has no space for an urgent write.

        Raises what `Database` does, and RuntimeError if no thread can be started.
        """
        self.jobs = JobTable()
        self._database = _CachedDatabase(self.jobs, path, durable=durable, may_create=may_create)
        try:
            with self.reading() as db:
                self.jobs.skip_to(records.last_version(db))
            self._commits = GroupCommit(self._database, on_full=on_full)
        except BaseException:
            self._database.close()
            raise

    @property
    def fault(self) -> str | None:
        """Why the last transaction failed; None if it succeeded."""
        return self._commits.fault

    def write(self, run: Operation[T], then: Callable[[T], None] | None = None) -> PendingWrite[T]:
        """Have `run` called in a transaction, and `then` after it; see `GroupCommit.write`."""
        return self._commits.write(run, then)

    def post(
        self, *writes: tuple[Operation[Any], Callable[[Any], None] | None], urgent: bool = False
    ) -> None:
        """Put writes into the queue without waiting for them; see `GroupCommit.post`."""
        self._commits.post(*writes, urgent=urgent)

    def check(self) -> str | None:
        """Return why nothing can be stored now, None if it can.

        After a failure it tries a write. Otherwise a server that gets no jobs meanwhile would not
        notice that the fault is over. It waits two seconds at most, because the disk may hang.
        """
        if self.fault is not None:
            with contextlib.suppress(EngineClosed):
                self._commits.write(_trial, in_writer=True).wait(_CHECK_SECONDS)
        return self.fault

    def reading(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """Lend a connection for reading what is committed; raise StoreUnavailable."""
        return self._database.reading()

    def job(self, job_id: str) -> Job:
        """Return a committed record; raise JobNotFound or StoreUnavailable."""
        job = self.jobs.cache.get(job_id)
        if job is None:
            with self.reading() as db:
                job = records.get(db, job_id)
        return job

    def finish(self) -> None:
        """Finish all pending writes; later ones are refused."""
        self._commits.close()

    def close(self) -> None:
        """Finish what was asked for, then close."""
        self.finish()
        self._database.close()


class _CachedDatabase(Database):
    """The database, with each transaction announced to the cache of the jobs' table."""

    def __init__(self, jobs: JobTable, path: str, *, durable: bool, may_create: bool) -> None:
        super().__init__(path, durable=durable, may_create=may_create)
        self._jobs = jobs

    def begin(self) -> sqlite3.Connection:
        db = super().begin()
        self._jobs.cache.begin()
        return db

    def commit(self) -> None:
        failpoints.point("engine.before_commit")
        self._jobs.cache.before_commit()
        super().commit()
        self._jobs.cache.after_commit()
        failpoints.point("engine.after_commit")


def _trial(db: sqlite3.Connection) -> None:
    records.set_meta(db, "checked", "")
