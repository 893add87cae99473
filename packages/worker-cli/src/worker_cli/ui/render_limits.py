"""Render a job's limits and isolation for people, as `worker status` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from worker_cli.ui import humanize

_FORMATS: Mapping[str, Callable[[Any], str]] = {
    "memory": humanize.size,
    "file_size": humanize.size,
    "cpu_time": humanize.duration,
    "io": lambda rates: ", ".join(f"{name} {humanize.size(rates[name])}/s" for name in rates),
}
_PRIVATE = {
    "private_network": "network",
    "private_tmp": "/tmp",  # noqa: S108  # a word of the text
    "pid_namespace": "processes",
}


def limits(requested: Any, enforced: Mapping[str, str | None]) -> str:
    """Return each limit and, in brackets, what enforces it once the job has started."""
    if not isinstance(requested, Mapping):
        return ""
    return ", ".join(
        f"{humanize.clean(name.replace('_', ' '))} {_amount(name, value)}{_by(name, enforced)}"
        for name, value in requested.items()
        if name != "best_effort"
    )


def isolation(requested: Any) -> str:
    """Return what the job has of its own, and what it cannot write to."""
    if not isinstance(requested, Mapping):
        return ""
    parts = [text for name, text in _PRIVATE.items() if requested.get(name)]
    if requested.get("read_only"):
        parts.append("file system read-only" + _except(requested.get("writable") or ()))
    return ", ".join(parts)


def _except(paths: Iterable[str]) -> str:
    listed = humanize.clean(" ".join(paths))
    return f" except {listed}" if listed else ""


def _amount(name: str, value: Any) -> str:
    try:
        return humanize.clean(_FORMATS.get(name, str)(value))
    except (TypeError, AttributeError):  # a newer server may send it in another form
        return humanize.clean(str(value))


def _by(name: str, enforced: Mapping[str, str | None]) -> str:
    if name not in enforced:
        return ""
    return f" ({humanize.clean(enforced[name] or 'not enforced')})"
