"""The SQL statements by name, and everything that is read except lists of jobs.

The functions take a connection, and run in the transaction that it has.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from worker_core.model.errors import JobNotFound
from worker_core.model.job import Job
from worker_core.model.spec import JobSpec
from worker_core.retention import Finished, Kept
from worker_core.store.columns import from_row

_SQL = Path(__file__).parent / "sql"


def _queries() -> dict[str, str]:
    parts = re.split(r"^-- name: (\w+)\n", (_SQL / "queries.sql").read_text("utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


QUERIES = _queries()
MIGRATIONS = tuple(
    file.read_text("utf-8")
    for file in sorted(_SQL.iterdir(), key=lambda each: each.name)
    if re.match(r"\d{4}_", file.name)
)
"""The first N of these make version N of the schema. Released ones are never changed."""

LONG_SPEC = 4096
"""Bytes of a spec in JSON. A longer spec is in a table of its own. Then the records that are
returned here have only an outline of it, unless a function's docstring says otherwise."""


def last_version(db: sqlite3.Connection) -> int:
    """Return the number of the latest change of any job."""
    return int(db.execute(QUERIES["last_version"]).fetchone()[0])


def owners(db: sqlite3.Connection) -> list[str]:
    """Return everyone who has a job."""
    return [row[0] for row in db.execute(QUERIES["owners"])]


def created_mark(db: sqlite3.Connection, since: float) -> int:
    """Return a `seq` such that all jobs before it were created before this time."""
    row = db.execute(QUERIES["created_mark"], {"since": since}).fetchone()
    return 0 if row is None else int(row[0])


def ids(db: sqlite3.Connection) -> set[str]:
    """Return the id of every job."""
    (together,) = db.execute(QUERIES["ids"]).fetchone()  # faster than a million rows
    return set(together.split("/")) if together else set()


def by_key(db: sqlite3.Connection, owner: str, key: str) -> tuple[Job, str] | None:
    """Return the owner's job with this idempotency key, with its whole spec, and its hash."""
    row = db.execute(QUERIES["by_key"], {"owner": owner, "idempotency_key": key}).fetchone()
    return None if row is None else (complete(db, from_row(row)), row["spec_hash"])


def get(db: sqlite3.Connection, job_id: str) -> Job:
    """Return a job; raise JobNotFound."""
    row = db.execute(QUERIES["get"], {"id": printable(job_id)}).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return from_row(row)


@contextlib.contextmanager
def one_moment(db: sqlite3.Connection) -> Iterator[None]:
    """Read one snapshot in this block: later commits are not seen."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:  # a disk error may have ended the transaction
            db.execute("COMMIT")


def complete(db: sqlite3.Connection, job: Job) -> Job:
    """Return a record with its whole spec; raise JobNotFound if the job was removed meanwhile."""
    if job.spec.whole:
        return job
    return job.replaced(spec=JobSpec.from_stored(json.loads(long_spec(db, job.id))))


def long_spec(db: sqlite3.Connection, job_id: str) -> str:
    """Return a long spec in JSON; raise JobNotFound."""
    row = db.execute(QUERIES["long_spec"], {"id": job_id}).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return str(row["spec"])


def long_spec_bytes(db: sqlite3.Connection, job_id: str) -> int:
    """Return the size of a long spec in JSON; 0 if the job has none."""
    row = db.execute(QUERIES["long_spec_bytes"], {"id": job_id}).fetchone()
    return 0 if row is None else int(row[0])


def only_finished(db: sqlite3.Connection, job_ids: Collection[str]) -> list[str]:
    """Return the ids of the given jobs that have ended."""
    values = {"ids": json.dumps([printable(job_id) for job_id in job_ids])}
    return [row[0] for row in db.execute(QUERIES["only_finished"], values)]


def removals(db: sqlite3.Connection) -> set[str]:
    """Return the ids of jobs whose record is deleted but whose directory may still exist."""
    return {row[0] for row in db.execute(QUERIES["removals"])}


def settle_removals(db: sqlite3.Connection, job_ids: Collection[str]) -> None:
    """Delete the notes of removals whose directories are gone, and marks of time without jobs."""
    db.execute(QUERIES["delete_removals"], {"ids": json.dumps([*job_ids])})
    db.execute(QUERIES["delete_created_marks"])


def finished(db: sqlite3.Connection) -> Iterator[Finished]:
    """Yield the finished jobs, the oldest end first."""
    return (Finished(*row) for row in db.execute(QUERIES["finished_oldest_first"]))


def kept(db: sqlite3.Connection) -> dict[str, Kept]:
    """Return how many finished jobs each owner has, and how much disk space they take."""
    return {owner: Kept(jobs, size) for owner, jobs, size in db.execute(QUERIES["kept"])}


def totals(db: sqlite3.Connection) -> tuple[dict[str, int], int]:
    """Return how many jobs are in each state, and how much disk space all outputs take."""
    rows = [tuple(row) for row in db.execute(QUERIES["totals"])]
    return {state: count for state, count, _ in rows}, sum(size for _, _, size in rows)


def get_meta(db: sqlite3.Connection, key: str) -> str | None:
    """Return the value that is stored under a key, or None."""
    row = db.execute(QUERIES["get_meta"], {"key": key}).fetchone()
    return None if row is None else str(row["value"])


def set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    """Store a value under a key."""
    db.execute(QUERIES["set_meta"], {"key": key, "value": value})


def active(db: sqlite3.Connection) -> list[Job]:
    """Return every job that has not ended, oldest first."""
    return [from_row(row) for row in db.execute(QUERIES["active"])]


def changed(db: sqlite3.Connection, owner: str, version: int, limit: int) -> list[Job]:
    """Return the owner's jobs that changed after a version, in the order of their changes."""
    values = {"owner": owner, "version": version, "limit": limit}
    return [from_row(row) for row in db.execute(QUERIES["changed"], values)]


def printable(text: str) -> str:
    """Return a text with "?" for each byte that is not UTF-8: SQLite refuses the original."""
    return text.encode("utf-8", "replace").decode("utf-8")
