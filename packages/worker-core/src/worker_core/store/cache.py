"""The latest job records in memory, exactly as the database would give them back.

The record of a short job is needed half a dozen times: for each of its changes, by callers that
wait for its end, by requests for its status. Reading it from the database costs ten times as much
as the change itself.
"""

from __future__ import annotations

from worker_core.model.job import Job

_MOST = 1000  # of a few KiB each: long specs are in the database only (records.LONG_SPEC)


class JobCache:
    """Records of jobs that were submitted lately. Only transactions change anything.

    A transaction is between `begin` and `after_commit`. What it has put is returned by
    `in_transaction` at once, and by `get` after the commit. During the commit, `get` returns None
    for these jobs, so that callers that read the database instead never see a later record than
    callers that read the cache.
    """

    def __init__(self) -> None:
        self._committed: dict[str, Job] = {}  # the latest change last
        self._uncommitted: dict[str, Job] = {}

    def get(self, job_id: str) -> Job | None:
        """Return the committed record, or None if it is not cached. Any thread may call this."""
        return self._committed.get(job_id)

    def in_transaction(self, job_id: str) -> Job | None:
        """Return the record as the current transaction has left it, or None if not cached."""
        return self._uncommitted.get(job_id) or self._committed.get(job_id)

    def insert(self, job: Job) -> None:
        """Put a new record."""
        self._uncommitted[job.id] = job

    def update(self, job: Job) -> None:
        """Put a changed record, if the job is cached."""
        if self.in_transaction(job.id) is not None:
            self._uncommitted[job.id] = job

    def delete(self, job_id: str) -> None:
        """Drop the record of a job that is removed."""
        self._uncommitted.pop(job_id, None)
        self._committed.pop(job_id, None)

    def begin(self) -> None:
        """Drop records of an earlier transaction that was not committed."""
        self._uncommitted = {}

    def before_commit(self) -> None:
        """Drop the records that the commit is about to replace."""
        for job_id in self._uncommitted:
            self._committed.pop(job_id, None)

    def after_commit(self) -> None:
        """Keep the records of this transaction; drop the oldest ones beyond the limit."""
        self._committed |= self._uncommitted
        while len(self._committed) > _MOST:
            del self._committed[next(iter(self._committed))]
