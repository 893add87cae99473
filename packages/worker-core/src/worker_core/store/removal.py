"""Removing finished jobs: the records of many in one transaction, then their directories.

    one transaction      the records are deleted, and their ids are noted in `removals`
    after the commit     the directories are removed
    `settle`             the directory jobs/ is flushed, then the notes are deleted

A crash or power cut in between leaves directories without a record. Since their ids are in
`removals`, they are not taken for jobs that the database has lost: the next engine removes them.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable

from worker_core.disk import files, jobdir
from worker_core.disk.jobdir import JobDir
from worker_core.model.errors import StoreUnavailable
from worker_core.store import records
from worker_core.store.store import Store

_AT_ONCE = 50  # jobs in one transaction, which other writes wait for: 5 ms


class Remover:
    """Removes finished jobs of one state directory. All methods may be called from any thread."""

    def __init__(self, state_dir: str, store: Store, on_full: Callable[[], None]) -> None:
        """`on_full` frees disk space that is kept for writes; see `disk.reserve`."""
        self._state_dir = state_dir
        self._store = store
        self._on_full = on_full
        self._lock = threading.Lock()  # guards what follows
        self._unsettled: list[str] = []

    def remove(self, job_ids: Iterable[str], is_closing: Callable[[], bool] = lambda: False) -> int:
        """Remove jobs; return how many. Unknown jobs and jobs that have not ended are left out.

        Stops between two lots when `is_closing` returns true. Raises StoreUnavailable; then the
        output of up to fifty jobs may be gone although they have a record.
        """
        count, remaining = 0, iter(job_ids)
        while (lot := list(itertools.islice(remaining, _AT_ONCE))) and not is_closing():
            removed = self._delete(lot)
            self.finish(removed)
            count += len(removed)
        return count

    def finish(self, job_ids: Iterable[str]) -> None:
        """Remove the directories of jobs whose record is deleted."""
        for job_id in job_ids:
            JobDir(self._state_dir, job_id).remove()
            with self._lock:
                self._unsettled.append(job_id)

    def settle(self) -> None:
        """Delete the notes of finished removals; to be called regularly. Raises OSError."""
        with self._lock:
            settled, self._unsettled = self._unsettled, []
        if settled:
            # Otherwise a power cut could bring back a directory that is no longer noted.
            files.sync_dir(os.path.join(self._state_dir, jobdir.JOBS))
            self._store.post((lambda db: records.settle_removals(db, settled), None))

    def _delete(self, job_ids: list[str]) -> list[str]:
        try:
            return self._store.write(lambda db: self._store.jobs.remove(db, job_ids)).result()
        except StoreUnavailable:  # on a full disk, the space that this frees may be what is missing
            with self._store.reading() as db:
                finished = records.only_finished(db, job_ids)
            for job_id in finished:
                JobDir(self._state_dir, job_id).remove()
            self._on_full()
            return self._store.write(lambda db: self._store.jobs.remove(db, finished)).result()
