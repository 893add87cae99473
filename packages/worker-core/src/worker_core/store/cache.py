"""The latest records in memory, exactly as the database would give them back.

A short job's record is wanted half a dozen times: for each of its changes, by who waits for its
end, by who asks for its status. Reading it from the database costs ten times the change itself.
"""

from __future__ import annotations

from worker_core.model.job import Job

_MOST = 1000  # of a few KiB each: long specs are in the database only (records.LONG_SPEC)


class Recent:
    """Records of jobs that were submitted lately. Only the writer's thread changes anything.

    Between `begin` and `commit` there is a transaction. What it has noted is seen by `inside` at
    once, and by `get` after its commit; while it commits, `get` knows nothing of it, so that who
    reads the database instead is never ahead of who reads here.
    """

    def __init__(self) -> None:
        self._committed: dict[str, Job] = {}  # the latest change last
        self._noted: dict[str, Job] = {}

    def get(self, job_id: str) -> Job | None:
        """Return the committed record, or None if it is not kept here. Any thread may ask."""
        return self._committed.get(job_id)

    def inside(self, job_id: str) -> Job | None:
        """Return the record as the transaction under way has left it, if it is kept here."""
        return self._noted.get(job_id) or self._committed.get(job_id)

    def insert(self, job: Job) -> None:
        """Note a new record."""
        self._noted[job.id] = job

    def change(self, job: Job) -> None:
        """Note what a record is now, if it is kept here."""
        if self.inside(job.id) is not None:
            self._noted[job.id] = job

    def forget(self, job_id: str) -> None:
        """Drop a record: it is removed."""
        self._noted.pop(job_id, None)
        self._committed.pop(job_id, None)

    def begin(self) -> None:
        """Forget what an earlier transaction has noted and not committed."""
        self._noted = {}

    def prepare(self) -> None:
        """Let nobody take for current what is about to be replaced."""
        for job_id in self._noted:
            self._committed.pop(job_id, None)

    def commit(self) -> None:
        """Keep what was noted, and not too much in all."""
        self._committed |= self._noted
        while len(self._committed) > _MOST:
            del self._committed[next(iter(self._committed))]
