"""The small fields of a JobSpec that decide when the job starts: how each is checked and read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from worker_core.model import rules
from worker_core.model.errors import echo, name_echo
from worker_core.model.rules import Schema

Problems = Iterator[tuple[str, str]]  # (path below the field, what is wrong with it)

LEAST_PRIORITY, MOST_PRIORITY = -100, 100
MAX_POOLS = 64  # that one job takes units from
MAX_UNITS = 1 << 62
MAX_NAME = 255  # characters of the name of a lock or of a pool
_MOST_TIME = 253402300799.0  # the last second of the year 9999

_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
# In JSON no text has the last of these, which stand for bytes that are not UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ZONE = re.compile(r"([Zz]|[+-]\d\d:\d\d)$", re.ASCII)


class Priority:
    """Orders the waiting jobs of one owner: higher first."""

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with a number."""
        if not rules.is_whole(value):
            yield "", "must be a whole number"
        elif not LEAST_PRIORITY <= value <= MOST_PRIORITY:
            yield "", f"must be from {LEAST_PRIORITY} to {MOST_PRIORITY}"

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "integer", "minimum": LEAST_PRIORITY, "maximum": MOST_PRIORITY}


class Moment:
    """A time in Unix seconds; in JSON, a text in RFC 3339."""

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with a time."""
        if not rules.is_number(value):
            yield "", "must be a time in Unix seconds"
        elif not math.isfinite(value) or not 0 <= value <= _MOST_TIME:
            yield "", "must be a time between the years 1970 and 9999"

    def schema(self) -> Schema:
        """Return the schema of the JSON form."""
        return {"type": "string", "format": "date-time"}


def resources_problems(value: object) -> Problems:
    """Yield the faults of units of pools. The settings define the pools."""
    if not isinstance(value, Mapping):
        yield "", "must be an object of pools and how many units of each"
        return
    if len(value) > MAX_POOLS:
        yield "", f"must name at most {MAX_POOLS} pools"
        return
    for name, units in value.items():
        path = f"[{echo(name)}]"
        if not isinstance(name, str) or not name or len(name) > MAX_NAME:
            yield path, f"as a name: must be a text of 1 to {MAX_NAME} characters"
        if not rules.is_whole(units):
            yield path, "must be a whole number of units"
        elif not 1 <= units <= MAX_UNITS:
            yield path, f"must be from 1 to {MAX_UNITS} units"


class Lock:
    """The name of a lock."""

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with a name."""
        if not isinstance(value, str):
            yield "", "must be a text"
        elif not value or len(value) > MAX_NAME:
            yield "", f"must be a text of 1 to {MAX_NAME} characters"
        elif _CONTROL.search(value):
            yield "", "must have no control characters"

    def schema(self) -> Schema:
        """Return the schema."""
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$"
        return {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": pattern}


def moment(value: object) -> float:
    """Return the Unix seconds of a time in RFC 3339; a time before 1970 counts as 1970.

    Raises ValueError for anything else.
    """
    example = "as in 2026-12-01T08:00:00Z or 2026-12-01T08:00:00+01:00"
    if not isinstance(value, str):
        raise ValueError(f"must be a time in RFC 3339, {example}")
    if not _RFC_3339.fullmatch(value):
        zone = "" if len(value) > 40 or _ZONE.search(value) else " with a zone"
        raise ValueError(f"{name_echo(value)!r} is not a time in RFC 3339{zone}, {example}")
    try:
        found = datetime.fromisoformat(value.upper().replace(" ", "T"))
        return min(max(found.timestamp(), 0.0), _MOST_TIME)
    except OverflowError:  # a zone takes it out of the years 1 to 9999
        return 0.0 if value.startswith("0") else _MOST_TIME
    except ValueError as error:
        raise ValueError(f"{name_echo(value)!r} is not a time: {error}") from None
