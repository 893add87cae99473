"""Limits and Isolation: what a job may use and what it may see. Both are parts of a JobSpec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from worker_core.model import rules
from worker_core.model.errors import name_echo

Problems = Iterator[tuple[str, str]]  # (path below the field, what is wrong with it)

MAX_PATHS = 256  # in `writable`
MAX_PATH = 4095  # bytes of a path, as the kernel takes it (PATH_MAX)


@dataclass(frozen=True)
class Limits:
    """What a job may use; None means no limit.

    A job with a limit that cannot be enforced on this machine is refused. With `best_effort` it
    runs, and its record says what was enforced.
    """

    memory: int | None = None
    """Bytes of memory of the whole process tree (cgroup memory.max), without swap. A job that needs
    more ends as out_of_memory."""
    cpus: float | None = None
    """CPUs, for instance 1.5 (cgroup cpu.max)."""
    pids: int | None = None
    """Processes and threads at the same time (cgroup pids.max)."""
    io: Mapping[str, int] | None = None
    """`read` and `write` in bytes per second, on the disk under the working directory (cgroup
    io.max)."""
    cpu_time: float | None = None
    """Seconds of CPU of each process (RLIMIT_CPU); a process that uses more gets SIGXCPU."""
    open_files: int | None = None
    """Open files of each process (RLIMIT_NOFILE)."""
    file_size: int | None = None
    """Bytes of each file that is written, the output included (RLIMIT_FSIZE)."""
    best_effort: bool = False

    def problems(self) -> Problems:
        """Yield the faults of each field; accepts values of any type."""
        return _problems(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, of what is set."""
        return _set_fields(self)


@dataclass(frozen=True)
class Isolation:
    """What a job may not see or change; everything is off by default."""

    private_network: bool = False
    """No network except a private loopback interface."""
    private_tmp: bool = False
    """A private, empty /tmp and /var/tmp."""
    read_only: bool = False
    """The file system is read-only except for the working directory and the paths in `writable`."""
    writable: Sequence[str] = ()
    pid_namespace: bool = False
    """Only the job's own processes are visible."""

    def problems(self) -> Problems:
        """Yield what is wrong with each field, and with fields that do not fit together."""
        yield from _problems(self)
        if self.writable and not self.read_only:
            yield ".writable", "means something only together with read_only"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, of what is set."""
        shown = _set_fields(self)
        return shown | ({"writable": list(self.writable)} if self.writable else {})


RULES_OF: Mapping[type, Mapping[str, rules.Rule]] = {
    Limits: {
        "memory": rules.Whole(),
        "cpus": rules.Amount(),
        "pids": rules.Whole(),
        "io": rules.Rates(("read", "write")),
        "cpu_time": rules.Amount(),
        "open_files": rules.Whole(),
        "file_size": rules.Whole(),
        "best_effort": rules.Flag(),
    },
    Isolation: {
        "private_network": rules.Flag(),
        "private_tmp": rules.Flag(),
        "read_only": rules.Flag(),
        "writable": rules.AbsolutePaths(MAX_PATHS, most_bytes=MAX_PATH),
        "pid_namespace": rules.Flag(),
    },
}
"""The rule of each field. None is the default of the fields that take it, and needs no rule."""


def _problems(part: Limits | Isolation) -> Problems:
    for name, rule in RULES_OF[type(part)].items():
        value = getattr(part, name)
        if value is not getattr(type(part), name):  # the default
            for path, why in rule.problems(value):
                yield f".{name}{path}", why


def from_dict(kind: type[Limits] | type[Isolation], value: object) -> Limits | Isolation:
    """Make either from its JSON form; `problems` checks the values.

    Raise ValueError if it is not an object, and KeyError with the name of an unknown field.
    """
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    known = [each.name for each in fields(kind)]
    for name in value:
        if name not in known:
            raise KeyError(f"{name_echo(name)}: unknown field; known are {', '.join(known)}")
    if not value:
        return kind()
    return kind(**{name: each for name, each in value.items() if each is not None})


def _set_fields(value: Limits | Isolation) -> dict[str, Any]:
    # The class has the defaults.
    return {name: each for name, each in vars(value).items() if each != getattr(type(value), name)}
