"""The limits and the isolation of a job, as `status` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from worker_cli.ui import humanize

_TEXTS: Mapping[str, Callable[[Any], str]] = {
    "memory": humanize.size,
    "file_size": humanize.size,
    "cpu_time": humanize.duration,
    "io": lambda value: ", ".join(
        f"{name} {humanize.size(each)}/s" for name, each in value.items()
    ),
}
_PRIVATE = {
    "private_network": "network",
    "private_tmp": "/tmp",  # noqa: S108  # a word of the text
    "pid_namespace": "processes",
}


def limits(requested: Any, enforced: Mapping[str, str | None]) -> str:
    """Return each limit, followed in brackets by what enforces it once the job has started."""
    if not isinstance(requested, Mapping):
        return ""
    return ", ".join(
        f"{humanize.clean(name.replace('_', ' '))} {_amount(name, value)}{_by(name, enforced)}"
        for name, value in requested.items()
        if name != "best_effort"
    )


def isolation(requested: Any) -> str:
    """Return what the job cannot see or write."""
    if not isinstance(requested, Mapping):
        return ""
    parts = [text for name, text in _PRIVATE.items() if requested.get(name)]
    if requested.get("read_only"):
        parts.append("file system read-only" + _but(requested.get("writable") or ()))
    return ", ".join(parts)


def _but(paths: Iterable[str]) -> str:
    named = humanize.clean(" ".join(paths))
    return f" but for {named}" if named else ""


def _amount(name: str, value: Any) -> str:
    try:
        return humanize.clean(_TEXTS.get(name, str)(value))
    except (TypeError, AttributeError):  # a newer server may write it in another way
        return humanize.clean(str(value))


def _by(name: str, enforced: Mapping[str, str | None]) -> str:
    if name not in enforced:
        return ""
    return f" ({humanize.clean(enforced[name] or 'not enforced')})"
