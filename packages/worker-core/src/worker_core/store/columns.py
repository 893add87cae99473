"""The columns of the table of jobs, derived from the fields of Job, Usage and KillRequest.

A new field needs no line here, no statement and no migration: it is written and read under its own
name, and `missing` adds its column when a database without that column is opened. Only a field of
a new type needs a line in `_TYPES`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

from worker_core.model.job import Job
from worker_core.model.kill import KillRequest
from worker_core.model.spec import JobSpec
from worker_core.model.state import State
from worker_core.model.usage import Usage
from worker_core.model.waiting.waits import Waits

_Convert = Callable[[Any], Any] | None  # None: the value is stored as it is

_TYPES: dict[str, tuple[str, _Convert, _Convert]] = {
    "str": ("TEXT", None, None),
    "str | None": ("TEXT", None, None),
    "int": ("INTEGER", None, None),
    "int | None": ("INTEGER", None, None),
    "float": ("REAL", None, None),
    "float | None": ("REAL", None, None),
    "State": ("TEXT", lambda state: state.value, State),
    "Mapping[str, str | None]": (
        "TEXT",
        lambda value: json.dumps(dict(value)) if value else None,
        lambda text: json.loads(text) if text else {},
    ),
}
"""Type of a field, as it is written -> type of its column, conversion to it, conversion back."""

_NESTED: dict[str, tuple[type[Any], str]] = {
    "usage": (Usage, ""),
    "kill": (KillRequest, "kill_"),
    "waits": (Waits, "waits_"),
}
"""Field of Job whose value has several columns -> its class, and how the names of these columns
begin. If the column of the first field is NULL, the whole value is None."""

_PLAIN = {
    each.name: _TYPES[str(each.type)]
    for each in fields(Job)
    if each.name not in {"spec", *Job.COMPUTED, *_NESTED}
}
_PARTS = {
    name: {f"{prefix}{each.name}": each.name for each in fields(kind)}
    for name, (kind, prefix) in _NESTED.items()
}
"""Field of Job -> column -> field of its value."""
_CONVERTED = [(name, convert) for name, (_, convert, _) in _PLAIN.items() if convert is not None]
_NULLS = {name: dict.fromkeys(parts) for name, parts in _PARTS.items()}

_NAMES = [*_PLAIN, *(column for parts in _PARTS.values() for column in parts)]
_AT_INSERT = [*_NAMES, "spec", "name", "spec_hash", "idempotency_key"]

INSERT = (
    f"INSERT INTO jobs ({', '.join(_AT_INSERT)}) "  # noqa: S608  # constants
    f"VALUES ({', '.join(f':{name}' for name in _AT_INSERT)})"
)
"""Adds a row; takes `to_row` and the columns that are not fields of Job."""

_CHANGING = ", ".join(f"{name} = :{name}" for name in _NAMES if name not in Job.FIXED)
UPDATE = f"UPDATE jobs SET {_CHANGING} WHERE id = :id"  # noqa: S608  # constants
"""Writes every field that may change; takes `to_row`."""


def to_row(job: Job) -> dict[str, Any]:
    """Return the values of a record's columns, except that of its spec."""
    values = vars(job)
    row = {name: values[name] for name in _PLAIN}
    for name, convert in _CONVERTED:
        row[name] = convert(row[name])
    for name, parts in _PARTS.items():
        value = values[name]
        if value is None:
            row |= _NULLS[name]
        else:
            given = vars(value)
            row |= {column: given[field] for column, field in parts.items()}
    return row


def from_row(row: sqlite3.Row) -> Job:
    """Return the record of a row."""
    values = {
        name: row[name] if convert is None else convert(row[name])
        for name, (_, _, convert) in _PLAIN.items()
    }
    for name, parts in _PARTS.items():
        found = [row[column] for column in parts]
        kind, _ = _NESTED[name]
        values[name] = None if found[0] is None else kind(*found)
    return Job(**values, spec=JobSpec.from_stored(json.loads(row["spec"])))


def missing(db: sqlite3.Connection) -> list[str]:
    """Return the statements that add the columns which the table does not have yet."""
    there = {row[1] for row in db.execute("PRAGMA table_info(jobs)")}
    kinds = {name: sql for name, (sql, _, _) in _PLAIN.items()}
    for name, parts in _PARTS.items():
        hints = get_type_hints(_NESTED[name][0])
        kinds |= {column: _sql_type(hints[field]) for column, field in parts.items()}
    return [
        f"ALTER TABLE jobs ADD COLUMN {name} {sql}"
        for name, sql in kinds.items()
        if name not in there
    ]


def _sql_type(hint: Any) -> str:
    written = str(hint)
    if "float" in written:
        return "REAL"
    return "INTEGER" if "int" in written or "bool" in written else "TEXT"
