"""EngineSettings: the limits and habits of an engine."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_OLD_NAMES = {
    "max_running_of_owner": "max_running_per_owner",
    "max_queued_of_owner": "max_queued_per_owner",
    "keep_bytes_of_owner": "keep_bytes_per_owner",
}
"""Names of release 0.1.0; they work in 0.2 and are removed after it."""


@dataclass(frozen=True)
class EngineSettings:
    """The limits and habits of an engine. None or 0 means no limit, as each setting says."""

    max_running: int = 256
    """Jobs that run at the same time; further jobs wait. One slot of 16 is kept for owners without
    a running job. 0: no limit."""
    max_running_per_owner: int = 0
    """Jobs of one owner that run at the same time; further ones wait. 0: no separate limit."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of the slots, an owner with a share of 2 gets twice as many as one with a share of 1, which
    an owner has who is not named here."""
    max_queued_per_owner: int = 0
    """Jobs of one owner that wait; further ones are refused. 0: no separate limit."""
    max_queued: int = 100_000
    """Jobs that wait; further ones are refused. 0: a job that cannot start at once is refused."""
    no_new_privileges: bool = True
    """No job gains privileges by executing a file, as sudo does. A change takes effect when a
    supervisor is started the next time."""
    hidden_paths: Sequence[str] = ()
    """Files and directories of the server, absolute paths, which a job with `read_only` can neither
    read nor change. The state directory is hidden from such a job in any case."""
    start_supervisor: bool = True
    """Start a supervisor when none is running. With False, something else must start it, for
    instance a service of root."""
    output_limit: int = 1 << 30
    """Bytes of each stream to keep for a job whose spec has no limit of its own; 0: no limit."""
    keep_age: float | None = 7 * 86400.0
    """Seconds for which a finished job is kept. None: for ever."""
    keep_count: int | None = None
    """How many finished jobs are kept. None: all."""
    keep_bytes: int | None = None
    """Bytes of finished jobs that are kept: their outputs, inputs and specs, as they are counted
    on the disk. None: all."""
    keep_bytes_per_owner: int | None = None
    """The same for the jobs of one owner. None: no separate limit."""


def _renamed(old: str, *, stacklevel: int) -> str:
    """Return the new name of a setting, and warn the caller who used the old one."""
    new = _OLD_NAMES[old]
    warnings.warn(
        f"EngineSettings.{old} is deprecated; use {new}", DeprecationWarning, stacklevel=stacklevel
    )
    return new


def _accept_old_names(kind: type[EngineSettings]) -> None:
    """Let settings be given to the constructor, and be read, by their old names too."""
    init: Any = kind.__init__

    @functools.wraps(init)
    def accepting(self: EngineSettings, *args: Any, **settings: Any) -> None:
        for old in _OLD_NAMES.keys() & settings.keys():
            settings[_renamed(old, stacklevel=3)] = settings.pop(old)
        init(self, *args, **settings)

    def read(self: EngineSettings, old: str) -> Any:
        if old not in _OLD_NAMES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {old!r}")
        return getattr(self, _renamed(old, stacklevel=3))

    kind.__init__ = accepting  # type: ignore[method-assign]
    # Set here and not in the class, where it would make mypy accept every attribute.
    setattr(kind, "__getattr__", read)  # noqa: B010


_accept_old_names(EngineSettings)
