"""Listing jobs: the filter, the SQL that it becomes, and one page of what it finds."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker_core.model import encoding
from worker_core.model.errors import InvalidRequest
from worker_core.model.job import Job
from worker_core.model.state import State
from worker_core.store.columns import from_row
from worker_core.store.records import long_spec_bytes, printable

_STEP = 20_000  # instructions of SQLite's machine, of which a row that does not match takes a few


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
            job = from_row(row)
            size += len(row["spec"]) if job.spec.whole else long_spec_bytes(db, job.id)
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
