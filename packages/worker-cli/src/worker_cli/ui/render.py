"""Render jobs for people: the outcome in a line, all details, or a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from worker_cli import exits, job
from worker_cli.ui import humanize, render_limits, terminal

_COLOURS = {
    "completed": "green",
    "failed": "red",
    "timed_out": "red",
    "out_of_memory": "red",
    "lost": "red",
    "killed": "yellow",
    "skipped": "yellow",
    "stopping": "yellow",
    "running": "cyan",
}
_UNITS: Mapping[str, Callable[[Any], str]] = {
    job.SECONDS: humanize.duration,
    job.BYTES: humanize.size,
    job.COUNT: str,
}
_STATUS, _NAME = 1, 5  # columns of the table
_MIN_COMMAND_WIDTH = 15  # with fewer columns, nobody recognises a command


def outcome(status: job.JobStatus) -> str:
    """Return a job's status and, in brackets, details such as its exit code."""
    word = terminal.coloured(humanize.clean(status.status), _COLOURS.get(status.status))
    return f"{word} ({humanize.clean(status.outcome)})" if status.outcome else word


def shell_hint(record: job.JobRecord) -> str | None:
    """Return the command to type instead, when a shell line was given as a program's name."""
    command = record.argv[0]
    not_found = record.exit_code == exits.NOT_FOUND and not record.argv[1:]
    if not (not_found and humanize.is_shell_line(command)):
        return None
    return f"to run a shell line: worker run --shell {humanize.command_line([command])}"


def details(record: job.JobRecord, now: datetime) -> str:
    """Return everything that a person may want to know about a job, in a few lines."""
    rows = [
        ("job", record.id),
        ("name", _text(record.spec.get("name"))),
        ("command", humanize.command_line(record.argv)),
        ("in", _text(record.spec.get("cwd"))),
        ("labels", _pairs(record.spec.get("labels"))),
        ("limits", render_limits.limits(record.spec.get("limits"), record.enforced)),
        ("private", render_limits.isolation(record.spec.get("isolation"))),
        ("created", _when(record.created_at, now)),
        ("ran" if record.ended else "runs", _run_time(record, now)),
        *_labelled_fields(record),
        ("hint", shell_hint(record)),
    ]
    lines = [f"  {label:8} {value}" for label, value in rows if value]
    return "\n".join([outcome(record), *lines])


def table(records: Sequence[job.JobRecord], now: datetime, width: int | None) -> str:
    """Return a table of jobs that fits into `width` columns; None does not limit the width."""
    head = ["ID", "STATUS", "EXIT", "AGE", "TIME", "NAME", "COMMAND"]
    rows = [head, *(_row(record, now, width) for record in records)]
    named = any(record.spec.get("name") for record in records)
    if not named or _width_of_last(rows, width) < _MIN_COMMAND_WIDTH:
        rows = [[*row[:_NAME], *row[_NAME + 1 :]] for row in rows]
    command_width = max(_width_of_last(rows, width), _MIN_COMMAND_WIDTH)
    colours = [None, *(_COLOURS.get(record.status) for record in records)]
    widths = _column_widths(rows)
    lines = []
    for cells, colour in zip(rows, colours, strict=True):
        padded = [
            cell + " " * (column_width - humanize.columns(cell))
            for cell, column_width in zip(cells[:-1], widths[:-1], strict=True)
        ]
        padded[_STATUS] = terminal.coloured(padded[_STATUS], colour)
        command = humanize.truncate(cells[-1], command_width) if width else cells[-1]
        lines.append("  ".join([*padded, command]))
    return "\n".join(lines)


def _column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(humanize.columns, column)) for column in zip(*rows, strict=True)]


def _width_of_last(rows: Sequence[Sequence[str]], width: int | None) -> int:
    """Return how many columns remain for the last cell of a row."""
    others = _column_widths(rows)[:-1]
    return (width or sys.maxsize) - sum(others) - 2 * len(others)


def as_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Return the server's answer as indented JSON; lone surrogates stay escaped."""
    return json.dumps(value, indent=2)


def as_json_lines(values: Sequence[Mapping[str, Any]]) -> str:
    """Return one JSON object per line."""
    return "\n".join(json.dumps(value, separators=(",", ":")) for value in values)


def _duration(record: job.JobStatus) -> str:
    """Return how long a job has run so far, or ran in all, as the server measured it."""
    return "-" if record.duration is None else humanize.duration(record.duration)


def _row(record: job.JobRecord, now: datetime, width: int | None) -> list[str]:
    return [
        record.id[:8] if width else record.id,
        humanize.clean(record.status),
        _exit(record),
        humanize.age(record.created_at, now),
        _duration(record),
        humanize.truncate(_text(record.spec.get("name")) or "-", 20),
        humanize.command_line(record.argv, width and max(width, _MIN_COMMAND_WIDTH)),
    ]


def _exit(record: job.JobStatus) -> str:
    if record.signal is not None:
        return job.signal_name(record.signal).removeprefix("SIG")
    return "-" if record.exit_code is None else str(record.exit_code)


def _text(value: Any) -> str:
    return humanize.clean(str(value)) if value else ""


def _pairs(value: Any) -> str:
    pairs = value.items() if isinstance(value, Mapping) else ()
    return humanize.clean(" ".join(f"{key}={text}" for key, text in pairs))


def _when(moment: datetime | None, now: datetime) -> str:
    return f"{humanize.moment(moment)}, {humanize.age(moment, now)} ago" if moment else ""


def _run_time(record: job.JobStatus, now: datetime) -> str:
    if record.started_at is None:
        return ""
    if record.ended_at is None:
        period = f"since {humanize.moment(record.started_at)}"
    else:
        period = f"until {_when(record.ended_at, now)}"
    return period if record.duration is None else f"{_duration(record)}, {period}"


def _labelled_fields(record: job.JobRecord) -> Iterator[tuple[str, str]]:
    """Yield the label and the value of each field that is declared with a label."""
    for field in fields(record):
        if label := field.metadata.get("label"):
            value = getattr(record, field.name)
            yield label, _used(value) if isinstance(value, job.Usage) else _text(value)


def _used(usage: job.Usage) -> str:
    """Return what a job has used so far, or used in all, as far as it was measured."""
    values: dict[str, list[Any]] = {}
    metadata = {}
    for field in fields(usage):
        if label := field.metadata.get("label"):
            values.setdefault(label, []).append(getattr(usage, field.name))
            metadata[label] = field.metadata
    measured = {label: sum(parts) for label, parts in values.items() if None not in parts}
    return ", ".join(
        _amount(total, metadata[label])
        for label, total in measured.items()
        if total or not metadata[label]["peak"]
    )


def _amount(value: float, metadata: Mapping[str, Any]) -> str:
    label = metadata["label_of_one"] if value == 1 else metadata["label"]
    return f"{_UNITS[metadata['unit']](value)} {label}"
