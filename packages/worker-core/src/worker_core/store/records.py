"""Between rows and records: every SQL statement that touches a job, and nothing that waits.

The functions take a connection and run inside whatever transaction it has; `store` decides when.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker_core.model import encoding
from worker_core.model.errors import InvalidRequest, JobNotFound
from worker_core.model.job import Change, Job, Usage
from worker_core.model.spec import JobSpec, outline
from worker_core.model.state import State
from worker_core.retention import Finished, Kept
from worker_core.store.cache import Recent

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


_LONGEST_REASON = 4000  # characters; one may repeat a command, which may have 128 KiB
_STEP = 20_000  # instructions of SQLite's machine, of which a row that does not match takes a few
LONG_SPEC = 4096
"""Bytes of a spec in JSON. A longer one is kept apart, and what is returned here has only its
outline, unless something else is said."""


@dataclass(frozen=True)
class Filter:
    """Which jobs to list; empty means all."""

    owner: str | None = None
    states: Collection[State] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    id_prefix: str | None = None
    since: float | None = None
    ended_before: float | None = None


def insert(
    db: sqlite3.Connection,
    recent: Recent,
    job: Job,
    *,
    spec_hash: str,
    idempotency_key: str | None,
) -> Job:
    """Add a job."""
    # Escaped to ASCII: SQLite refuses the surrogates that stand for raw bytes.
    shown = job.spec.to_dict()
    spec = encoding.compact_json(shown)
    long = len(spec) > LONG_SPEC
    if long:
        db.execute(QUERIES["insert_long_spec"], {"id": job.id, "spec": spec})
        spec = encoding.compact_json(outline(shown))
    values = {
        "id": job.id,
        "version": job.version,
        "owner": job.owner,
        "state": job.state.value,
        "name": None if job.spec.name is None else printable(job.spec.name),
        "spec": spec,
        "idempotency_key": idempotency_key,
        "spec_hash": spec_hash,
        "created_at": job.created_at,
        "run_as": job.run_as,
    }
    db.execute(QUERIES["insert"], values)
    plain = job.spec.stdin is None and not job.spec.confined and not long
    stored = job.spec if plain else JobSpec.from_stored(json.loads(spec))
    recent.insert(job.replaced(spec=stored))
    return job


def ids(db: sqlite3.Connection) -> set[str]:
    """Return the id of every job."""
    return {row[0] for row in db.execute(QUERIES["ids"])}


def by_key(db: sqlite3.Connection, owner: str, key: str) -> tuple[Job, str] | None:
    """Return the owner's job with this idempotency key, its spec whole, and the hash of that."""
    row = db.execute(QUERIES["by_key"], {"owner": owner, "idempotency_key": key}).fetchone()
    return None if row is None else (complete(db, _job(row)), row["spec_hash"])


def get(db: sqlite3.Connection, job_id: str) -> Job:
    """Return a job; raise JobNotFound."""
    row = db.execute(QUERIES["get"], {"id": printable(job_id)}).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return _job(row)


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


def _long_spec_bytes(db: sqlite3.Connection, job_id: str) -> int:
    row = db.execute(QUERIES["long_spec_bytes"], {"id": job_id}).fetchone()
    return 0 if row is None else int(row[0])


def change(
    db: sqlite3.Connection, recent: Recent, job_id: str, changed: Change, version: int
) -> Job:
    """Apply a change; raise JobNotFound or IllegalTransition, having written nothing."""
    job = (recent.inside(job_id) or get(db, job_id)).after(changed)
    return save(db, recent, job.replaced(version=version))


def save(db: sqlite3.Connection, recent: Recent, job: Job) -> Job:
    """Write what a job has come to; its owner and its spec never change."""
    reason = None if job.reason is None else printable(job.reason)[:_LONGEST_REASON]
    kill_reason = None if job.kill_reason is None else printable(job.kill_reason)
    job = job.replaced(reason=reason, kill_reason=kill_reason)
    usage = job.usage
    values = {
        "id": job.id,
        "version": job.version,
        "state": job.state.value,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "pid": job.pid,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "reason": reason,
        "killed_by": job.killed_by,
        "kill_by": job.kill_by,
        "kill_reason": kill_reason,
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
    db.execute(QUERIES["update"], values)
    recent.change(job)
    return job


def set_output_bytes(db: sqlite3.Connection, job_id: str, size: int) -> None:
    """Record what a finished job's output takes on the disk."""
    db.execute(QUERIES["set_output_bytes"], {"id": job_id, "output_bytes": size})


def delete(db: sqlite3.Connection, recent: Recent, job_id: str) -> None:
    """Remove a job."""
    recent.forget(job_id)
    db.execute(QUERIES["delete"], {"id": job_id})
    db.execute(QUERIES["delete_long_spec"], {"id": job_id})


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
    return [_job(row) for row in db.execute(QUERIES["active"])]


def changed(db: sqlite3.Connection, owner: str, version: int, limit: int) -> list[Job]:
    """Return the owner's jobs that changed after a version, in the order of their last change."""
    values = {"owner": owner, "version": version, "limit": limit}
    return [_job(row) for row in db.execute(QUERIES["changed"], values)]


def page(
    db: sqlite3.Connection,
    wanted: Filter,
    limit: int,
    cursor: str | None,
    *,
    max_bytes: int | None = None,
    on_step: Callable[[], None] | None = None,
) -> tuple[list[Job], str | None]:
    """Return jobs newest first, and the cursor of the next page if there is one.

    Their whole specs have at most `max_bytes` in JSON together, unless there is only one job.
    `on_step` is called now and then during a long search, and what it raises ends that.
    """
    where, values = _where(wanted)
    if cursor is not None:
        where.append("seq < :cursor")
        values["cursor"] = _cursor(cursor)
    clause = f"WHERE {' AND '.join(where)}" if where else ""
    values["limit"] = limit + 1
    # Every piece of the statement is a constant of this file; what is asked for is bound.
    statement = f"SELECT * FROM jobs {clause} ORDER BY seq DESC LIMIT :limit"  # noqa: S608
    jobs: list[Job] = []
    last, size = "", 0
    with _stepwise(db, on_step), contextlib.closing(db.execute(statement, values)) as rows:
        for row in rows:
            job = _job(row)
            size += len(row["spec"]) if job.spec.whole else _long_spec_bytes(db, job.id)
            if len(jobs) == limit or (max_bytes is not None and size > max_bytes and jobs):
                return jobs, last
            jobs.append(job)
            last = str(row["seq"])
    return jobs, None


@contextlib.contextmanager
def _stepwise(db: sqlite3.Connection, on_step: Callable[[], None] | None) -> Iterator[None]:
    """Have `on_step` called again and again while statements run; what it raises ends them."""
    if on_step is None:
        yield
        return
    raised: list[Exception] = []

    def step() -> int:
        try:
            on_step()
        except Exception as error:  # noqa: BLE001  # SQLite would lose it
            raised.append(error)
        return len(raised)

    db.set_progress_handler(step, _STEP)
    try:
        yield
    except sqlite3.OperationalError:
        if raised:
            raise raised[0] from None
        raise
    finally:
        db.set_progress_handler(None, 0)


def _cursor(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise InvalidRequest(f"{cursor!r} is no cursor; use the next_cursor of the page before")
    return int(cursor)


def _where(wanted: Filter) -> tuple[list[str], dict[str, Any]]:
    where: list[str] = []
    values: dict[str, Any] = {}
    if wanted.owner is not None:
        where.append("owner = :owner")
        values["owner"] = printable(wanted.owner)
    if wanted.name is not None:
        # The column is as people read it, where "?" stands for a byte that is not UTF-8.
        where.append("name = :name AND has_name(spec, :raw_name)")
        values |= {"name": printable(wanted.name), "raw_name": encoding.compact_json(wanted.name)}
    if wanted.states:
        names = {f"state{at}": each.value for at, each in enumerate(wanted.states)}
        where.append(f"state IN ({', '.join(f':{name}' for name in names)})")
        values |= names
    if wanted.since is not None:
        where.append("created_at >= :since")
        values["since"] = wanted.since
    if wanted.ended_before is not None:
        where.append("ended_at <= :ended_before")
        values["ended_before"] = wanted.ended_before
    if wanted.id_prefix is not None:
        where.append("substr(id, 1, length(:id_prefix)) = :id_prefix")
        values["id_prefix"] = printable(wanted.id_prefix)
    for at, (key, value) in enumerate(wanted.labels.items()):
        # The label as it stands in the JSON, which other jobs may have elsewhere: few are parsed.
        where.append(f"instr(spec, :label{at}) AND has_label(spec, :key{at}, :value{at})")
        values[f"label{at}"] = encoding.compact_json({key: value})[1:-1]
        values |= {
            f"key{at}": encoding.compact_json(key),
            f"value{at}": encoding.compact_json(value),
        }
    return where, values


def add_functions(db: sqlite3.Connection) -> None:
    """Let a connection compare names and labels exactly.

    SQLite's own functions for JSON drop NUL bytes, and it takes no surrogates: what is compared is
    given as JSON.
    """

    def has_name(spec: str, name: str) -> bool:
        return bool(json.loads(spec)["name"] == json.loads(name))

    def has_label(spec: str, key: str, value: str) -> bool:
        return bool(json.loads(spec)["labels"].get(json.loads(key)) == json.loads(value))

    db.create_function("has_name", 2, has_name, deterministic=True)
    db.create_function("has_label", 3, has_label, deterministic=True)


def printable(text: str) -> str:
    """Return text with what stands for raw bytes as "?", as people and SQLite can take it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _job(row: sqlite3.Row) -> Job:
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
