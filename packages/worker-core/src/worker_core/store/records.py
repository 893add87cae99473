"""The SQL statements by name, rows as records and back, and everything that is read but lists.

The functions take a connection, and run in the transaction that it has. A job's columns are named
here in `new_row`, `changed_row` and `from_row`.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker_core.model.errors import JobNotFound
from worker_core.model.job import Job, Usage
from worker_core.model.spec import JobSpec
from worker_core.model.state import State
from worker_core.retention import Finished, Kept

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
"""Version N of the schema is reached by the first N of these; none is ever changed."""

LONG_SPEC = 4096
"""Bytes of a spec in JSON. A longer spec is in a table of its own, and the records that are
returned here have an outline of it, unless the function says something else."""


def last_version(db: sqlite3.Connection) -> int:
    """Return the number of the latest change of any job."""
    return int(db.execute(QUERIES["last_version"]).fetchone()[0])


def ids(db: sqlite3.Connection) -> set[str]:
    """Return the id of every job."""
    return {row[0] for row in db.execute(QUERIES["ids"])}


def by_key(db: sqlite3.Connection, owner: str, key: str) -> tuple[Job, str] | None:
    """Return the owner's job with this idempotency key, its spec whole, and the hash of that."""
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
    """Have everything that is read in this block be as it was at one moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:  # an error of the disk may have ended it
            db.execute("COMMIT")


def complete(db: sqlite3.Connection, job: Job) -> Job:
    """Return a record with its whole spec; raise JobNotFound if the job was removed meanwhile."""
    if job.spec.whole:
        return job
    return job.replaced(spec=JobSpec.from_stored(json.loads(long_spec(db, job.id))))


def long_spec(db: sqlite3.Connection, job_id: str) -> str:
    """Return a spec that is kept apart, in JSON; raise JobNotFound."""
    row = db.execute(QUERIES["long_spec"], {"id": job_id}).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return str(row["spec"])


def long_spec_bytes(db: sqlite3.Connection, job_id: str) -> int:
    """Return the size of a spec that is kept apart, in JSON; 0 if there is none."""
    row = db.execute(QUERIES["long_spec_bytes"], {"id": job_id}).fetchone()
    return 0 if row is None else int(row[0])


def finished(db: sqlite3.Connection) -> Iterator[Finished]:
    """Yield the finished jobs, the oldest end first."""
    return (Finished(*row) for row in db.execute(QUERIES["finished_oldest_first"]))


def kept(db: sqlite3.Connection) -> dict[str, Kept]:
    """Return what the finished jobs of each owner amount to."""
    return {owner: Kept(jobs, size) for owner, jobs, size in db.execute(QUERIES["kept"])}


def totals(db: sqlite3.Connection) -> tuple[dict[str, int], int]:
    """Return how many jobs are in each state, and the bytes of their output on the disk."""
    rows = [tuple(row) for row in db.execute(QUERIES["totals"])]
    return {state: count for state, count, _ in rows}, sum(size for _, _, size in rows)


def get_meta(db: sqlite3.Connection, key: str) -> str | None:
    """Return what is remembered under a key."""
    row = db.execute(QUERIES["get_meta"], {"key": key}).fetchone()
    return None if row is None else str(row["value"])


def set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    """Remember something under a key."""
    db.execute(QUERIES["set_meta"], {"key": key, "value": value})


def active(db: sqlite3.Connection) -> list[Job]:
    """Return every job that has not ended, oldest first."""
    return [from_row(row) for row in db.execute(QUERIES["active"])]


def changed(db: sqlite3.Connection, owner: str, version: int, limit: int) -> list[Job]:
    """Return the owner's jobs that changed after a version, in the order of their last change."""
    values = {"owner": owner, "version": version, "limit": limit}
    return [from_row(row) for row in db.execute(QUERIES["changed"], values)]


def printable(text: str) -> str:
    """Return text with what stands for raw bytes as "?", as people and SQLite can take it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def new_row(job: Job) -> dict[str, Any]:
    """Return the columns of a new job, but for its spec and its idempotency key."""
    return {
        "id": job.id,
        "version": job.version,
        "owner": job.owner,
        "state": job.state.value,
        "name": None if job.spec.name is None else printable(job.spec.name),
        "created_at": job.created_at,
        "run_as": job.run_as,
    }


def changed_row(job: Job) -> dict[str, Any]:
    """Return the columns that may change, and the id."""
    usage = job.usage
    return {
        "id": job.id,
        "version": job.version,
        "state": job.state.value,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "pid": job.pid,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "reason": job.reason,
        "killed_by": job.killed_by,
        "kill_by": job.kill_by,
        "kill_reason": job.kill_reason,
        "kill_signal": job.kill_signal,
        "kill_grace": job.kill_grace,
        "wall_seconds": None if usage is None else usage.wall_seconds,
        "user_seconds": None if usage is None else usage.user_seconds,
        "system_seconds": None if usage is None else usage.system_seconds,
        "max_rss_bytes": None if usage is None else usage.max_rss_bytes,
        "read_bytes": None if usage is None else usage.read_bytes,
        "written_bytes": None if usage is None else usage.written_bytes,
        "max_processes": None if usage is None else usage.max_processes,
        "enforced": json.dumps(dict(job.enforced)) if job.enforced else None,
    }


def from_row(row: sqlite3.Row) -> Job:
    """Return the record of a row of the table of jobs."""
    usage = None
    if row["wall_seconds"] is not None:
        usage = Usage(
            row["wall_seconds"],
            row["user_seconds"],
            row["system_seconds"],
            row["max_rss_bytes"],
            row["read_bytes"],
            row["written_bytes"],
            row["max_processes"],
        )
    return Job(
        id=row["id"],
        owner=row["owner"],
        spec=JobSpec.from_stored(json.loads(row["spec"])),
        state=State(row["state"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        pid=row["pid"],
        exit_code=row["exit_code"],
        signal=row["signal"],
        reason=row["reason"],
        killed_by=row["killed_by"],
        usage=usage,
        kill_by=row["kill_by"],
        kill_reason=row["kill_reason"],
        kill_signal=row["kill_signal"],
        kill_grace=row["kill_grace"],
        run_as=row["run_as"],
        enforced=json.loads(row["enforced"]) if row["enforced"] else {},
        version=row["version"],
    )
