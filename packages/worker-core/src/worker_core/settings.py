"""EngineSettings: what bounds an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineSettings:
    """What bounds an engine. None or 0 mean no bound, as each says."""

    max_running: int = 256
    """Jobs that run at a time; further ones wait. 0: no bound."""
    max_running_of_owner: int = 0
    """Jobs of one owner that run at a time; further ones wait. 0: no bound of its own."""
    max_queued_of_owner: int = 0
    """Jobs of one owner that wait; further ones are refused. 0: no bound of its own."""
    max_queued: int = 100_000
    """Jobs that wait; further ones are refused. 0: what cannot start at once is refused."""
    no_new_privileges: bool = True
    """No job gains privileges by executing a file, as sudo does. Takes effect with the next start
    of a supervisor."""
    start_supervisor: bool = True
    """Start a supervisor when there is none; otherwise somebody else does, as a service of root."""
    output_limit: int = 1 << 30
    """Bytes of each stream to keep for a job that does not say; 0: no bound."""
    keep_age: float | None = 7 * 86400.0
    """Seconds for which a finished job is kept. None: for ever."""
    keep_count: int | None = None
    """How many finished jobs are kept. None: all."""
    keep_bytes: int | None = None
    """Bytes of finished jobs that are kept, their outputs, inputs and specs, as the disk counts
    them. None: all."""
    keep_bytes_of_owner: int | None = None
    """The same for the jobs of one owner. None: no bound of its own."""
