"""The requests that an engine can send to its supervisor: their fields, and the bounds of these.

Every message is checked. The engine faces the network and may have been taken over, and a job that
runs under its account can connect as well. Fields that this release does not know are ignored.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from worker_core.disk import jobdir
from worker_core.model import signals
from worker_core.model.errors import InvalidRequest

MAX_REQUEST = 48 << 20
"""Bytes; execve(2) accepts 6 MiB of arguments and environment, which JSON can make six times as
long."""
MAX_IDS = 20_000
"""Ids in one query; an engine asks for running jobs only."""

_MAX_SECONDS = 100 * 365 * 86400.0 + 1
_MAX_BYTES = 1 << 62
_MAX_TEXT = 4096  # characters of a reason or a name; a path has 4,095 bytes

_LONGEST_SIGNAL = 20  # characters

_ONLY_TO_START = {"command", "args", "env", "cwd", "stdin", "hidden"}

Check = Callable[[Any], bool]


def fault(message: dict[str, Any]) -> str | None:
    """Return why a request cannot be handled, None if it can."""
    op = message.get("op")
    checks = _REQUESTS.get(op) if isinstance(op, str) else None
    if checks is None:
        return f"unknown request {shown(op)}"
    return _wrong(checks, message, f"{op}: ")


def sound_spec(spec: object) -> bool:
    """Return whether a job can be started, watched and ended by this spec."""
    if not isinstance(spec, dict):
        return False
    for name, value in spec.items():  # kept short, because every start is checked
        if value is not None and name in _SPEC and not _SPEC[name](value):
            return False
    return True


def kept(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a spec that is needed while the job runs; the rest may be large."""
    return {name: spec[name] for name in spec.keys() - _ONLY_TO_START}


def shown(value: object) -> str:
    """Return a value from a message, short enough for a log."""
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:80]}… ({len(text)} characters)"


def _wrong(checks: dict[str, Check], message: dict[str, Any], where: str) -> str | None:
    for name, check in checks.items():
        value = message.get(name)
        if not check(value):
            return f"{where}invalid {name}: {shown(value)}"
    return None


def _text(most: int = MAX_REQUEST) -> Check:
    return lambda value: isinstance(value, str) and len(value) <= most


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _MAX_SECONDS and math.isfinite(value)


def _size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_BYTES


def _flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _signum(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _signal(value)


def _signal(value: Any) -> bool:
    short = isinstance(value, int) or (isinstance(value, str) and len(value) < _LONGEST_SIGNAL)
    return short and _is_signal(value)


@functools.lru_cache(100, typed=True)
def _is_signal(value: str | int) -> bool:
    try:
        signals.number(value)
    except InvalidRequest:
        return False
    return True


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _mapping(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _small(value: object) -> bool:
    """Return whether a value is a dict of few numbers or paths, nested once at most."""
    return isinstance(value, dict) and len(value) <= 32 and all(map(_amount, value.values()))


def _amount(value: object) -> bool:
    if isinstance(value, dict):
        return len(value) <= 8 and all(map(_size, value.values()))
    if isinstance(value, list):
        return len(value) <= 1000 and all(map(_text(_MAX_TEXT), value))
    return _flag(value) or _size(value) or _number(value)


def _ids(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_IDS and all(map(jobdir.is_id, value))


# Each field may be missing or None, as in the claim of an earlier release or in one that was cut
# short. A start needs all fields; a missing one is reported when the job is started.
_SPEC: dict[str, Check] = {
    "command": _text(),
    "args": _texts,
    "env": _mapping,
    "cwd": _text(_MAX_TEXT),
    "stdin": _text(_MAX_TEXT),
    "owner": _text(_MAX_TEXT),
    "run_as": _text(256),
    "timeout": _number,
    "stop_signal": _signal,
    "stop_grace": _number,
    "separate_stderr": _flag,
    "output_limit": _size,
    "limits": _small,
    "isolation": _small,
    "hidden": lambda value: _texts(value) and _small({"hidden": value}),
}

_REQUESTS: dict[str, dict[str, Check]] = {
    "start": {"id": jobdir.is_id, "spec": sound_spec},
    "kill": {
        "id": jobdir.is_id,
        "reason": _optional(_text(_MAX_TEXT)),
        "signal": _optional(_signum),
        "grace": _optional(_number),
    },
    "signal": {"id": jobdir.is_id, "signal": _signum},
    "query": {"ids": _ids, "token": lambda value: _size(value) or _text(64)(value)},
    "kept": {},
    "upgrade": {},
    "shutdown": {},
}
