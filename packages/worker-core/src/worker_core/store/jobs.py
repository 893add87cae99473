"""The table of jobs: all writes of records, the numbers of their changes, and the cache.

All methods run inside a transaction, of which there is one at a time. Reading is in `records` and
`listing`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import replace

from worker_core.model import encoding
from worker_core.model.job import Change, Job
from worker_core.model.spec import JobSpec, outline
from worker_core.store import columns, listing, records
from worker_core.store.cache import JobCache
from worker_core.store.records import QUERIES

_LONGEST_REASON = 4000  # characters; one may repeat a command, which may have 128 KiB


class JobTable:
    """The one writer of the table of jobs."""

    def __init__(self) -> None:
        self.cache = JobCache()
        self._version = 0

    @property
    def version(self) -> int:
        """The number of the latest change of any job. Any thread may read it."""
        return self._version

    def skip_to(self, version: int) -> None:
        """Give all later changes numbers higher than this one."""
        self._version = max(self._version, version)

    def insert(
        self, db: sqlite3.Connection, job: Job, *, spec_hash: str, idempotency_key: str | None
    ) -> Job:
        """Add a job; return its record with the number of this change."""
        job = job.replaced(version=self._next_version())
        # Escaped to ASCII: SQLite refuses the surrogates that stand for raw bytes.
        shown = job.spec.to_dict()
        spec = encoding.compact_json(shown)
        long = len(spec) > records.LONG_SPEC
        if long:
            db.execute(QUERIES["insert_long_spec"], {"id": job.id, "spec": spec})
            spec = encoding.compact_json(outline(shown))
        name = None if job.spec.name is None else records.printable(job.spec.name)
        beside = {"spec": spec, "name": name}
        beside |= {"idempotency_key": idempotency_key, "spec_hash": spec_hash}
        row = db.execute(columns.INSERT, columns.to_row(job) | beside)
        for label in listing.label_texts(spec) if job.spec.labels else ():
            values = {"owner": job.owner, "label": label, "seq": row.lastrowid}
            db.execute(QUERIES["insert_label"], values)
        plain = job.spec.stdin is None and not job.spec.confined and not long
        stored = job.spec if plain else JobSpec.from_stored(json.loads(spec))
        self.cache.insert(job.replaced(spec=stored))
        return job

    def change(self, db: sqlite3.Connection, job_id: str, change: Change) -> Job:
        """Apply a change; raise JobNotFound or IllegalTransition, having written nothing."""
        return self.save(db, self.current(db, job_id).after(change))

    def current(self, db: sqlite3.Connection, job_id: str) -> Job:
        """Return a record as this transaction has left it; raise JobNotFound."""
        return self.cache.in_transaction(job_id) or records.get(db, job_id)

    def save(self, db: sqlite3.Connection, job: Job) -> Job:
        """Write a record as it is now; its owner and its spec never change."""
        reason = None if job.reason is None else records.printable(job.reason)[:_LONGEST_REASON]
        kill = job.kill
        if kill is not None and kill.reason is not None:
            kill = replace(kill, reason=records.printable(kill.reason))
        job = job.replaced(version=self._next_version(), reason=reason, kill=kill)
        db.execute(columns.UPDATE, columns.to_row(job))
        self.cache.update(job)
        return job

    def set_output_bytes(self, db: sqlite3.Connection, job_id: str, size: int) -> None:
        """Record how much disk space a finished job's output takes."""
        db.execute(QUERIES["set_output_bytes"], {"id": job_id, "output_bytes": size})

    def remove(self, db: sqlite3.Connection, job_ids: Collection[str]) -> list[str]:
        """Delete the records of the given jobs that have ended, and note their ids; return these.

        The directories of these jobs are removed next; see `removal`.
        """
        finished = records.only_finished(db, job_ids)
        for job_id in finished:
            self.cache.delete(job_id)
        values = {"ids": json.dumps(finished)}
        for query in ("delete_labels", "delete_jobs", "delete_long_specs", "insert_removals"):
            db.execute(QUERIES[query], values)
        return finished

    def _next_version(self) -> int:
        self._version += 1
        return self._version
