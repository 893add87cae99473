"""The part of the engine's façade that reads the records of jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from worker_core.clock import Timeline
from worker_core.engine.lifecycle import Lifecycle
from worker_core.model.errors import InvalidRequest
from worker_core.model.job import Job
from worker_core.model.state import State
from worker_core.store import listing, records
from worker_core.store.store import Store

_LONGEST_PAGE = 1_000_000  # jobs


@dataclass(frozen=True)
class Page:
    """Some of the jobs, newest first; `next_cursor` is None on the last page."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


class RecordMethods:
    """Methods of `Engine` that read records."""

    _jobs: Lifecycle
    _store: Store
    _timeline: Timeline

    def get(self, job_id: str, *, whole: bool = True) -> Job:
        """Return a job's record; that of a running job includes what it has used so far.

        Without `whole`, a long spec (over 4 KiB in JSON) may be an outline, which lacks the long
        parts. The records that `wait`, `kill`, `signal` and `events` return are like that.

        Raises JobNotFound, also for a text that is not an id.
        """
        job = self._jobs.with_usage(self._record(job_id))
        return self.whole(job) if whole else job

    def whole(self, job: Job) -> Job:
        """Return a record with its whole spec; raise JobNotFound."""
        if job.spec.whole:
            return job
        with self._store.reading() as db:
            return records.complete(db, job)

    def spec_json(self, job: Job) -> str:
        """Return the spec of a job whose record has an outline of it, in JSON as it is stored."""
        with self._store.reading() as db:
            return records.long_spec(db, job.id)

    def list(
        self,
        *,
        owner: str | None = None,
        states: Collection[State] = (),
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        id_prefix: str | None = None,
        since: float | None = None,
        ended_before: float | None = None,
        limit: int = 50,
        cursor: str | None = None,
        max_bytes: int | None = None,
        whole: bool = True,
        on_step: Callable[[], None] | None = None,
    ) -> Page:
        """Return the jobs that match all conditions, newest first.

        The page has at most `limit` jobs. With `max_bytes`, their specs together have at most so
        many bytes in JSON, unless there is only one job. Without `whole`, a long spec is an
        outline; see `get`. `on_step` is called now and then during a long search; an exception that
        it raises ends the search.

        `since` is the earliest time of creation, `ended_before` the latest end, in Unix seconds;
        see `ago`. Raises InvalidRequest for a bad cursor or limit.
        """
        self._check_open()
        if not 1 <= limit <= _LONGEST_PAGE:
            raise InvalidRequest(f"limit must be a number from 1 to {_LONGEST_PAGE}")
        wanted = listing.Filter(owner, states, labels or {}, name, id_prefix, since, ended_before)
        # In one transaction: a job that is removed meanwhile must not lack its long spec.
        with self._store.reading() as db, records.one_moment(db):
            jobs, more = listing.page(
                db, wanted, limit, cursor, max_bytes=max_bytes, on_step=on_step
            )
            if whole:
                jobs = [records.complete(db, job) for job in jobs]
        return Page(tuple(map(self._jobs.with_reason, jobs)), more)

    def ago(self, seconds: float) -> float:
        """Return a Unix time; every job that ended before it did so at least `seconds` ago.

        The same holds for times of creation. The result allows for changes of the system clock. If
        the clock was changed, some jobs that ended after this time are that old as well.
        """
        return self._timeline.ago(seconds)

    def _record(self, job_id: str) -> Job:
        self._check_open()
        return self._jobs.with_reason(self._store.job(job_id))

    def _check_open(self) -> None:
        """Raise EngineClosed if the engine is closed."""
        raise NotImplementedError
