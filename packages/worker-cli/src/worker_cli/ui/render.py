"""Jobs as people see them: a word with its outcome, a paragraph, a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
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
_STATUS, _NAME = 1, 5  # columns of the table
_LEAST = 15  # columns for a command, below which nobody recognises it
_SHELL_CHARACTERS = frozenset(" |&;<>$*?~`\"'()")


def outcome(status: job.JobStatus) -> str:
    """Return the word for a job's state and, in brackets, what came of it."""
    word = terminal.coloured(humanize.clean(status.status), _COLOURS.get(status.status))
    return f"{word} ({humanize.clean(status.outcome)})" if status.outcome else word


def shell_hint(record: job.JobRecord) -> str | None:
    """Return what to type instead when a whole shell line was given as the name of a program."""
    command = record.argv[0]
    if (
        record.exit_code != exits.NOT_FOUND
        or record.argv[1:]
        or not _SHELL_CHARACTERS & set(command)
    ):
        return None
    return f"for a shell line: worker run --shell {humanize.command_line([command])}"


def paragraph(record: job.JobRecord, now: datetime) -> str:
    """Return everything that a person wants to know of a job, in a few lines."""
    rows = [
        ("job", record.id),
        ("name", _text(record.spec.get("name"))),
        ("command", humanize.command_line(record.argv)),
        ("in", _text(record.spec.get("cwd"))),
        ("as", _text(record.run_as)),
        ("labels", _pairs(record.spec.get("labels"))),
        ("limits", render_limits.limits(record.spec.get("limits"), record.enforced)),
        ("private", render_limits.isolation(record.spec.get("isolation"))),
        ("created", _when(record.created_at, now)),
        ("ran" if record.ended else "runs", _run_time(record, now)),
        ("used", _used(record.usage)),
        ("hint", shell_hint(record)),
    ]
    lines = [f"  {name:8} {value}" for name, value in rows if value]
    return "\n".join([outcome(record), *lines])


def table(records: Sequence[job.JobRecord], now: datetime, width: int | None) -> str:
    """Return a table of jobs; it fits into `width` columns, or is as wide as it needs to be."""
    head = ["ID", "STATUS", "EXIT", "AGE", "TIME", "NAME", "COMMAND"]
    rows = [head, *(_row(record, now, width) for record in records)]
    if not any(record.spec.get("name") for record in records) or _left(rows, width) < _LEAST:
        rows = [[*row[:_NAME], *row[_NAME + 1 :]] for row in rows]
    left = max(_left(rows, width), _LEAST)
    colours = [None, *(_COLOURS.get(record.status) for record in records)]
    sizes = _sizes(rows)
    lines = []
    for cells, colour in zip(rows, colours, strict=True):
        padded = [
            cell + " " * (size - humanize.columns(cell))
            for cell, size in zip(cells[:-1], sizes[:-1], strict=True)
        ]
        padded[_STATUS] = terminal.coloured(padded[_STATUS], colour)
        lines.append("  ".join([*padded, humanize.cut(cells[-1], left) if width else cells[-1]]))
    return "\n".join(lines)


def _sizes(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(humanize.columns, column)) for column in zip(*rows, strict=True)]


def _left(rows: Sequence[Sequence[str]], width: int | None) -> int:
    """Return how many columns are left for the last cell of a row."""
    before = _sizes(rows)[:-1]
    return (width or sys.maxsize) - sum(before) - 2 * len(before)


def as_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Return what the server sent as JSON for people to read; lone surrogates stay escaped."""
    return json.dumps(value, indent=2)


def as_lines(values: Sequence[Mapping[str, Any]]) -> str:
    """Return one JSON object a line."""
    return "\n".join(json.dumps(value, separators=(",", ":")) for value in values)


def elapsed(record: job.JobStatus) -> str:
    """Return how long a job has run, or ran, as the server has measured it."""
    return "-" if record.duration is None else humanize.duration(record.duration)


def _row(record: job.JobRecord, now: datetime, width: int | None) -> list[str]:
    return [
        record.id[:8] if width else record.id,
        humanize.clean(record.status),
        _exit(record),
        humanize.age(record.created_at, now),
        elapsed(record),
        humanize.cut(_text(record.spec.get("name")) or "-", 20),
        humanize.command_line(record.argv, width and max(width, _LEAST)),
    ]


def _exit(record: job.JobStatus) -> str:
    if record.signal is not None:
        return job.signal_name(record.signal).removeprefix("SIG")
    return "-" if record.exit_code is None else str(record.exit_code)


def _text(value: Any) -> str:
    return humanize.clean(str(value)) if value else ""


def _pairs(value: Any) -> str:
    pairs = value.items() if isinstance(value, Mapping) else ()
    return humanize.clean(" ".join(f"{key}={each}" for key, each in pairs))


def _when(moment: datetime | None, now: datetime) -> str:
    return f"{humanize.moment(moment)}, {humanize.age(moment, now)} ago" if moment else ""


def _run_time(record: job.JobStatus, now: datetime) -> str:
    if record.started_at is None:
        return ""
    if record.ended_at is None:
        told = f"since {humanize.moment(record.started_at)}"
    else:
        told = f"until {_when(record.ended_at, now)}"
    return told if record.duration is None else f"{elapsed(record)}, {told}"


def _used(usage: job.Usage | None) -> str:
    """Return what is known of what a job used, or has used up to now."""
    if usage is None:
        return ""
    parts = []
    if usage.user_seconds is not None and usage.system_seconds is not None:
        parts.append(f"{humanize.duration(usage.user_seconds + usage.system_seconds)} of CPU")
    if usage.max_rss_bytes:
        parts.append(f"{humanize.size(usage.max_rss_bytes)} of memory at most")
    if usage.max_processes:
        several = "process" if usage.max_processes == 1 else "processes at most"
        parts.append(f"{usage.max_processes} {several}")
    for count, what in ((usage.read_bytes, "read"), (usage.written_bytes, "written")):
        if count is not None:
            parts.append(f"{humanize.size(count)} {what}")
    return ", ".join(parts)
