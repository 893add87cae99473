"""Usage: what a job used. The only place where a usage field is declared.

From these declarations follow: what is counted (linux/usage.py), exit.json and the wire message
(disk/jobdir.py), the columns of the database (store/columns.py) and the API's JSON (model/job.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple, get_type_hints


class Counter(NamedTuple):
    """Where a cgroup counts a field: the file, the key in it ("" if the file is one number), and
    how many of the kernel's units make one of ours."""

    file: str
    key: str = ""
    units: int = 1

    @property
    def controller(self) -> str:
        """The cgroup controller that the file belongs to."""
        return self.file.partition(".")[0]


@dataclass(frozen=True)
class Usage:
    """What a job used: its whole process tree where the job has a cgroup of its own.

    Elsewhere it is what wait4(2) reports: the leader and the children that the leader waited for.
    """

    wall_seconds: float
    user_seconds: Annotated[float, Counter("cpu.stat", "user_usec", 1_000_000)] = 0.0
    system_seconds: Annotated[float, Counter("cpu.stat", "system_usec", 1_000_000)] = 0.0
    max_rss_bytes: Annotated[int | None, Counter("memory.peak")] = None
    """None where it is not known: the kernel starts a child's peak at the memory of its parent,
    the supervisor, so a smaller peak cannot be seen."""
    read_bytes: Annotated[int | None, Counter("io.stat", "rbytes")] = None
    """Bytes read from disks. This and the fields below are None without a cgroup."""
    written_bytes: Annotated[int | None, Counter("io.stat", "wbytes")] = None
    max_processes: Annotated[int | None, Counter("pids.peak")] = None
    """Processes and threads at the same time. It may be 2 for a single process that the supervisor
    started through the cgroup: when many jobs without limits and isolation start at once."""


_HINTS = get_type_hints(Usage, include_extras=True)

COUNTERS: dict[str, Counter] = {
    name: each
    for name, hint in _HINTS.items()
    for each in getattr(hint, "__metadata__", ())
    if isinstance(each, Counter)
}
"""Field -> where a cgroup counts it."""

TYPES: dict[str, type] = {
    name: float if "float" in str(hint) else int for name, hint in _HINTS.items()
}
"""Field -> the type of its value."""
