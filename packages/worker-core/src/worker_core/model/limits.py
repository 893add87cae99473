"""Limits and Isolation: what a job may use, and what it may see. Both are parts of a JobSpec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from worker_core.model.errors import name_echo

Problems = Iterator[tuple[str, str]]  # (path below the field, what is wrong with it)

_MOST = 1 << 62  # of whole numbers
_MOST_AMOUNT = 10**9  # of processors and of seconds
MAX_PATHS = 256  # in `writable`
MAX_PATH = 4095  # bytes of a path, as the kernel takes it (PATH_MAX)


@dataclass(frozen=True)
class Limits:
    """What a job may use; None is no limit of its own.

    A limit that cannot be enforced on this machine refuses the job, unless `best_effort`: then it
    runs, and its record says what was enforced.
    """

    memory: int | None = None
    """Bytes of the whole tree (cgroup memory.max), of which nothing is swapped out; over it the job
    is ended as out_of_memory."""
    cpus: float | None = None
    """Processors' worth of time, as in 1.5 (cgroup cpu.max)."""
    pids: int | None = None
    """Processes and threads at a time (cgroup pids.max)."""
    io: Mapping[str, int] | None = None
    """`read` and `write` in bytes per second, on the disk under the working directory (cgroup
    io.max)."""
    cpu_time: float | None = None
    """Seconds of CPU of each process (RLIMIT_CPU); over it the process gets SIGXCPU."""
    open_files: int | None = None
    """Descriptors of each process (RLIMIT_NOFILE)."""
    file_size: int | None = None
    """Bytes of each file that is written, the output included (RLIMIT_FSIZE)."""
    best_effort: bool = False

    def problems(self) -> Problems:
        """Yield what is wrong with each field, whatever came in."""
        for name in ("memory", "pids", "open_files", "file_size"):
            yield from _whole(f".{name}", getattr(self, name), least=1)
        for name in ("cpus", "cpu_time"):
            yield from _positive(f".{name}", getattr(self, name))
        if not _is_flag(self.best_effort):
            yield ".best_effort", "must be true or false"
        if self.io is not None:
            yield from _io(self.io)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, of what is set."""
        return _set_fields(self)


@dataclass(frozen=True)
class Isolation:
    """What a job may not see or touch; everything is off unless asked for."""

    private_network: bool = False
    """No network but a loopback interface of its own."""
    private_tmp: bool = False
    """An empty /tmp and /var/tmp of its own."""
    read_only: bool = False
    """No writing to the file system but the working directory and what `writable` names."""
    writable: Sequence[str] = ()
    pid_namespace: bool = False
    """No process is visible but its own."""

    def problems(self) -> Problems:
        """Yield what is wrong with each field."""
        for name in ("private_network", "private_tmp", "read_only", "pid_namespace"):
            if not _is_flag(getattr(self, name)):
                yield f".{name}", "must be true or false"
        if isinstance(self.writable, str) or not isinstance(self.writable, Sequence):
            yield ".writable", "must be a list of absolute paths"
            return
        if len(self.writable) > MAX_PATHS:
            yield ".writable", f"must be at most {MAX_PATHS} paths"
            return
        for at, path in enumerate(self.writable):
            if not _is_path(path):
                yield f".writable[{at}]", f"must be an absolute path of at most {MAX_PATH} bytes"
        if self.writable and not self.read_only:
            yield ".writable", "means something only together with read_only"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, of what is set."""
        shown = _set_fields(self)
        return shown | ({"writable": list(self.writable)} if self.writable else {})


def from_dict(kind: type[Limits] | type[Isolation], value: object) -> Limits | Isolation:
    """Make either from its JSON form; raise ValueError for what is no object, KeyError naming an
    unknown field. What the fields hold is left to `problems`."""
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


def _is_path(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        return False
    try:
        return len(value.encode("utf-8", "surrogateescape")) <= MAX_PATH
    except UnicodeEncodeError:
        return False


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _whole(path: str, value: object, *, least: int) -> Problems:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        yield path, "must be a whole number"
    elif value < least:
        yield path, f"must be at least {least}"
    elif value > _MOST:
        yield path, f"must be at most {_MOST}"


def _positive(path: str, value: object) -> Problems:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield path, "must be a number"
    elif not value >= 0.01:  # nor is that NaN
        yield path, "must be at least 0.01"
    elif value > _MOST_AMOUNT:
        yield path, f"must be at most {_MOST_AMOUNT}"


def _io(value: object) -> Problems:
    if not isinstance(value, Mapping) or not value or set(value) - {"read", "write"}:
        yield ".io", "must be an object with read, write or both, in bytes per second"
        return
    for name, each in value.items():
        if each is None:
            yield f".io.{name}", "must be a whole number"
        yield from _whole(f".io.{name}", each, least=1)
