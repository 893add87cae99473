"""Listing jobs: the filter, the SQL that it becomes, and one page of what it finds.

The cost of a page must not grow with the number of finished jobs. So a search uses the index that
finds the fewest rows: that of labels, names, states, beginnings of ids, or times of ends. The first
three return the jobs of one owner (and one state) by age; the rows of several owners or states are
merged. Rows found by id or by time must be sorted, which is done only if they are few. If no index
fits, the jobs are read from the newest on: then either many match, or `since` ends the search at a
mark (see 0005_finished.sql).
"""

from __future__ import annotations

import contextlib
import heapq
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker_core.model import encoding
from worker_core.model.errors import InvalidRequest
from worker_core.model.job import Job
from worker_core.model.state import FINAL, State
from worker_core.store.columns import from_row
from worker_core.store.records import created_mark, long_spec_bytes, owners, printable

_STEP = 20_000  # instructions of SQLite's machine, of which a row that does not match takes a few
_MANY = 1000  # rows that are too many to sort; they are looked for among the newest jobs instead
_NO_LABELS = '"labels":{}'  # quotes within a text are escaped, so no other text looks like this
LABEL_INDEXED = 200  # characters of a label that the index has

_LABELS = "labels CROSS JOIN jobs ON jobs.seq = labels.seq"
_THIS_LABEL = "labels.owner = :source_owner AND labels.label = :source_label"
_NAMES = "jobs INDEXED BY jobs_name"
_THIS_NAME = "jobs.owner = :source_owner AND name = :source_name"
_STATES = "jobs INDEXED BY jobs_final"
_THIS_STATE = "jobs.owner = :source_owner AND state = :source_state AND ended_at IS NOT NULL"
_ACTIVE = "jobs INDEXED BY jobs_active"
_IS_ACTIVE = "state IN ('queued', 'running', 'stopping')"
_IDS = "jobs INDEXED BY sqlite_autoindex_jobs_1"
_THIS_PREFIX = "id >= :first_id AND id <= :first_id || char(1114111)"
_ENDS = "jobs INDEXED BY jobs_ended"
_IS_BEFORE = "ended_at <= :latest_end"


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
    `on_step` is called from time to time during a long search; an exception from it ends that.
    """
    jobs: list[Job] = []
    last, size = "", 0
    with _stepwise(db, on_step), contextlib.ExitStack() as stack:
        for row in _rows(db, wanted, cursor, stack):
            job = from_row(row)
            size += len(row["spec"]) if job.spec.whole else long_spec_bytes(db, job.id)
            if len(jobs) == limit or (max_bytes is not None and size > max_bytes and jobs):
                return jobs, last
            jobs.append(job)
            last = str(row["seq"])
    return jobs, None


def _rows(
    db: sqlite3.Connection, wanted: Filter, cursor: str | None, stack: contextlib.ExitStack
) -> Iterator[sqlite3.Row]:
    """Return the matching rows, newest first; they are read while they are asked for."""
    where, values = _where(wanted)
    if cursor is not None:
        where.append("jobs.seq < :cursor")
        values["cursor"] = _cursor(cursor)
    if wanted.since is not None:
        where.append("jobs.seq >= :first")
        values["first"] = created_mark(db, wanted.since)
    streams = []
    for source in _sources(db, wanted):
        # Every piece of the statement is a constant of this file; what is asked for is bound.
        clause = " AND ".join([source.where, *where])
        statement = f"SELECT jobs.* FROM {source.table} WHERE {clause} ORDER BY {source.age} DESC"  # noqa: S608
        rows = db.execute(statement, {**values, **source.values})
        streams.append(stack.enter_context(contextlib.closing(rows)))
    return heapq.merge(*streams, key=lambda row: row["seq"], reverse=True)


@contextlib.contextmanager
def _stepwise(db: sqlite3.Connection, on_step: Callable[[], None] | None) -> Iterator[None]:
    """Call `on_step` from time to time while statements run; an exception from it ends them."""
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
        raise InvalidRequest(f"invalid cursor {cursor!r}; use the next_cursor of the page before")
    return int(cursor)


def _where(wanted: Filter) -> tuple[list[str], dict[str, Any]]:
    where: list[str] = []
    values: dict[str, Any] = {}
    if wanted.owner is not None:
        where.append("jobs.owner = :owner")
        values["owner"] = printable(wanted.owner)
    if wanted.name is not None:
        # In the column, "?" stands for each byte that is not UTF-8, so the spec is compared, too.
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
        # Search the JSON for the label as a text first: only what contains it is parsed.
        where.append(f"instr(spec, :label{at}) AND has_label(spec, :key{at}, :value{at})")
        values[f"label{at}"] = label_text(key, value)
        values |= {
            f"key{at}": encoding.compact_json(key),
            f"value{at}": encoding.compact_json(value),
        }
    return where, values


@dataclass(frozen=True)
class _Source:
    """A table with one of its indexes, and the part of it that a filter selects."""

    table: str
    where: str = "TRUE"
    values: Mapping[str, Any] = field(default_factory=dict)
    by_age: bool = True
    """Whether the index gives the rows in the order of their age."""

    @property
    def age(self) -> str:
        """The column to sort by: that of the index."""
        return "labels.seq" if self.table is _LABELS else "jobs.seq"


def _sources(db: sqlite3.Connection, wanted: Filter) -> Sequence[_Source]:
    """Return what to read: the sources of the filter that leaves the fewest rows."""
    best: Sequence[_Source] = [_Source("jobs")]
    fewest = _MANY + 1
    for sources in _choices(db, wanted):
        rows = min(sum(_count(db, source) for source in sources), _MANY)
        if rows < fewest and (rows < _MANY or all(source.by_age for source in sources)):
            best, fewest = sources, rows
    return best


def _choices(db: sqlite3.Connection, wanted: Filter) -> Iterator[Sequence[_Source]]:
    """Yield the sources of each filter that has an index."""
    whose = owners(db) if wanted.owner is None else [printable(wanted.owner)]
    for key, value in wanted.labels.items():
        label = label_text(key, value)[:LABEL_INDEXED]
        yield [
            _Source(_LABELS, _THIS_LABEL, {"source_owner": owner, "source_label": label})
            for owner in whose
        ]
    if wanted.name is not None:
        name = printable(wanted.name)
        yield [
            _Source(_NAMES, _THIS_NAME, {"source_owner": owner, "source_name": name})
            for owner in whose
        ]
    if wanted.states and not set(wanted.states) >= FINAL:
        active = [] if set(wanted.states) <= FINAL else [_Source(_ACTIVE, _IS_ACTIVE)]
        yield active + [
            _Source(_STATES, _THIS_STATE, {"source_owner": owner, "source_state": state.value})
            for owner in whose
            for state in FINAL.intersection(wanted.states)
        ]
    if wanted.id_prefix is not None:
        yield [_Source(_IDS, _THIS_PREFIX, {"first_id": printable(wanted.id_prefix)}, by_age=False)]
    if wanted.ended_before is not None:
        yield [_Source(_ENDS, _IS_BEFORE, {"latest_end": wanted.ended_before}, by_age=False)]


def _count(db: sqlite3.Connection, source: _Source) -> int:
    """Return how many rows a source has, at most _MANY."""
    rows = f"SELECT 1 FROM {source.table} WHERE {source.where} LIMIT {_MANY}"  # noqa: S608
    return int(db.execute(f"SELECT count(*) FROM ({rows})", source.values).fetchone()[0])  # noqa: S608


def label_text(key: str, value: str) -> str:
    """Return a label as it is written in the JSON of a spec, without the braces."""
    return encoding.compact_json({key: value})[1:-1]


def label_texts(spec: str) -> list[str]:
    """Return what the index has of each label of a spec in JSON."""
    if _NO_LABELS in spec:
        return []
    labels = json.loads(spec).get("labels") or {}
    return sorted({label_text(key, value)[:LABEL_INDEXED] for key, value in labels.items()})


def add_functions(db: sqlite3.Connection) -> None:
    """Add the SQL functions that compare names and labels exactly, and that list labels.

    SQLite's own JSON functions drop NUL bytes, and SQLite refuses surrogates. So these functions
    take their arguments as JSON.
    """

    def has_name(spec: str, name: str) -> bool:
        return bool(json.loads(spec)["name"] == json.loads(name))

    def has_label(spec: str, key: str, value: str) -> bool:
        return bool(json.loads(spec)["labels"].get(json.loads(key)) == json.loads(value))

    def all_labels(spec: str) -> str:
        return json.dumps(label_texts(spec))

    db.create_function("label_texts", 1, all_labels, deterministic=True)
    db.create_function("has_name", 2, has_name, deterministic=True)
    db.create_function("has_label", 3, has_label, deterministic=True)
