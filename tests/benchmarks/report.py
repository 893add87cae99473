"""What people and programs read of a run: a table, JSON, and the machine it was taken on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

_HEAD = ("", "measured", "beside", "ratio", "target", "")
_SIGNS = {True: "yes", False: "NO", None: ""}


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table in Markdown whose columns are aligned."""
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def document(
    figures: Mapping[str, Sequence[Row]], missing: Sequence[str], taken_on: Mapping[str, Any]
) -> dict[str, Any]:
    """Return everything, for JSON."""
    return {
        "machine": dict(taken_on),
        "missing": list(missing),
        "figures": {name: [row.document() for row in rows] for name, rows in figures.items()},
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": _first(r"^model name\s*: (.*)$", "/proc/cpuinfo") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_kB": int(_first(r"^MemTotal:\s+(\d+)", "/proc/meminfo") or 0),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def sentence(found: Mapping[str, Any]) -> str:
    """Return the machine for people."""
    gibibytes = found["memory_kB"] / (1 << 20)
    return (
        f"{found['processor']}, {found['cores']} cores, {gibibytes:.0f} GiB; Linux "
        f"{found['kernel']}; Python {found['python']}; load average {found['load_before']:.1f}"
    )


def number(value: float) -> str:
    """Return a number with three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cells(row: Row) -> tuple[str, ...]:
    beside = ""
    document = row.document()
    if document["baseline_median"] is not None:
        beside = f"{number(document['baseline_median'])} ({row.against})"
    return (
        row.what,
        f"{number(row.median)} {row.unit}",
        beside,
        "" if row.ratio is None else f"{row.ratio:.2f}",
        str(row.target or ""),
        _SIGNS[row.met],
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return f"| {' | '.join(cells)} |"


def _first(pattern: str, path: str) -> str | None:
    try:
        found = re.search(pattern, Path(path).read_text(), re.M)
    except OSError:
        return None
    return found[1] if found else None
