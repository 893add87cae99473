"""A job's directory: the files by which engine and supervisor share what they know of a job.

    jobs/<id>/          mode 0700; made by the engine
        record.json     by the engine before the job is committed: owner, spec and time, from which
                        `rebuild` makes the record again if the database is lost
        wish.json       by the engine at a kill: who asked for it, and why
        removed         by engines of older releases before they delete the record: the removal of
                        the job has begun
        stdin           by the engine before the job is committed, when there is input
        spec.json       by the supervisor before it forks: the claim. A job is started only by the
                        supervisor that creates this file, so it is started at most once. It is a
                        second name of record.json; where there is none, or a file can have only one
                        name, it holds the spec as the engine has sent it
        output, stderr  created by the supervisor, written by the job itself
        pid.json        by the supervisor once the job has run for a moment: pid, start time, boot
                        id; until then its process is known by its mark (supervisor/tree.py)
        kill.json       by the supervisor before its first signal: why, and when SIGKILL is due
        start.json      by the supervisor: the first byte still kept, per stream
        exit.json       by the supervisor before any engine learns of it: how the job ended

kill.json and start.json are replaced in one step (`files.replace`). An incomplete exit.json counts
as missing.

A supervisor of root that serves an engine of another account does not trust these files: it keeps
its own pid.json and kill.json where only root can write (supervisor/rundir.py). It reads and opens
only regular files here, follows no link and waits for no pipe.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from worker_core.disk import files
from worker_core.model import encoding, usage
from worker_core.model.state import Cause
from worker_core.model.usage import Usage

JOBS = "jobs"
SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
LOG = "supervisor.log"
_REMOVED = "removed"
_RECORD = "record.json"
STREAMS = {"stdout": "output", "stderr": "stderr"}
_COUNTED = (*STREAMS.values(), "stdin")  # files that may be large, beside the spec

_MOST_RECORD = 1 << 18  # bytes of a record; the longest text in it is a reason
_MOST_SPEC = 128 << 20  # bytes of a claim: as many as a message can have (wire.MAX_FRAME)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)

NOT_OURS = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.EWOULDBLOCK,
    errno.EACCES,
    errno.EXDEV,
}
"""Errors of open(2) for something that is not one of our files: nothing, a directory, a link, a
pipe, a file with a lease, or a file that we may not open."""


_NOT_SENT = frozenset({"name", "labels", "priority", "hold", "start_after", "lock", "after"})
"""Fields of a spec that the supervisor does not need."""


@dataclass(frozen=True)
class Pid:
    """Which process the leader is; pid, start time and boot id together are unique."""

    pid: int
    start_time: int  # clock ticks after boot, field 22 of /proc/PID/stat
    boot_id: str
    started_at: float  # Unix seconds
    enforced: dict[str, str | None] = field(default_factory=dict)  # limit -> what enforces it


@dataclass(frozen=True)
class Kill:
    """A kill that has begun, so that a new supervisor can continue it."""

    cause: Cause
    reason: str | None
    signalled: list[int]  # numbers sent so far
    counts: bool  # the leader survived our signal, so any end after this is our doing
    kill_at: float  # Unix seconds at which SIGKILL is due
    # The same since boot, which nobody can set; None if a supervisor of 0.1.0 wrote this.
    kill_at_boottime: float | None = None


@dataclass(frozen=True)
class Exit:
    """How a job ended, as it is written to exit.json and sent to the engine."""

    cause: Cause
    exit_code: int | None
    signal: int | None
    reason: str | None
    ended_at: float
    usage: Usage | None = None
    pid: int | None = None  # of the leader; this and the next two are as in Pid
    started_at: float | None = None
    enforced: dict[str, str | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, in which the fields of `usage` stand beside the others."""
        shown = dict(vars(self))
        del shown["usage"]
        return shown | (_NO_USAGE if self.usage is None else vars(self.usage))

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Exit:
        """Return what `to_dict` was called on; raise ValueError if a value cannot be that.

        Fields of a later release are left out.
        """
        end = cls._read(value)
        if end is None:
            raise ValueError(f"not the end of a job: {value}")
        return end

    @classmethod
    def _read(cls, value: dict[str, Any]) -> Exit | None:
        used = {name: value[name] for name in usage.TYPES if value.get(name) is not None}
        for name, each in used.items():  # `all` takes twice as long, here and below
            if not _USAGE_FITS[name](each):
                return None
        return _load(cls, value, usage=Usage(**used) if "wall_seconds" in used else None)


_NO_USAGE = dict.fromkeys(usage.TYPES)


class JobDir:
    """Paths and files of one job's directory."""

    def __init__(self, state_dir: str, job_id: str) -> None:
        self.job_id = job_id
        self.path = f"{state_dir}/{JOBS}/{job_id}"

    def file(self, name: str) -> str:
        """Return the path of a file in it."""
        return f"{self.path}/{name}"

    def disk_bytes(self) -> int:
        """Return the disk space of output, input and spec, and of the spec in the database.

        Holes in the output count as nothing.
        """
        total = 0
        for name in _COUNTED:
            found = self._stat(name)
            total += 0 if found is None else found.st_blocks * 512
        record = self._stat(_RECORD)
        claim = self._stat("spec.json") if record is None or record.st_nlink == 1 else None
        total += 0 if claim is None else claim.st_blocks * 512
        return total + (0 if record is None else record.st_blocks * 512 + record.st_size)

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(self.file(name))
        except FileNotFoundError:
            return None

    def stream(self, stream: str) -> str:
        """Return the path of the spool file of "stdout" or "stderr"."""
        return self.file(STREAMS[stream])

    def opened(self) -> AbstractContextManager[str]:
        """Hold the directory during a block; yields a path that certainly leads to it."""
        return nullcontext(self.path)

    def open_stream(self, stream: str, flags: int = os.O_CREAT | os.O_APPEND) -> int:
        """Open a spool file for writing, created with mode 0600; raises OSError, also if something
        else than a regular file is there."""
        with self.opened() as path:
            return files.open_regular(f"{path}/{STREAMS[stream]}", os.O_WRONLY | flags)

    def stream_size(self, stream: str) -> int:
        """Return the size of a spool file; raises FileNotFoundError."""
        with self.opened() as path:
            return os.lstat(f"{path}/{STREAMS[stream]}").st_size

    def remove(self) -> None:
        """Remove everything, as far as possible.

        The files that identify a job go first: the rest that a crash may leave is then not a job.
        """
        for name in (_RECORD, "spec.json"):
            with contextlib.suppress(OSError):
                os.unlink(self.file(name))
        with contextlib.suppress(OSError):
            for name in os.listdir(self.path):
                if name != _REMOVED:
                    with contextlib.suppress(OSError):
                        os.unlink(self.file(name))
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return
        except OSError:
            import shutil  # slow to import, and rarely needed

            shutil.rmtree(self.path, ignore_errors=True)

    def forget(self) -> None:
        """Remove what only the supervisor needed while the job was running."""

    def make(self) -> None:
        """Create the directory (mode 0700) unless it exists."""
        make_private_dir(self.path)

    def write_record(self, record: dict[str, Any]) -> None:
        """Write everything from which the job's record can be rebuilt."""
        files.create(self.file(_RECORD), _encode(record))

    def record(self) -> dict[str, Any] | None:
        """Return what `write_record` wrote; None if the file is missing or incomplete."""
        return self._read(_RECORD, _MOST_SPEC)

    def write_wish(self, wish: dict[str, Any]) -> None:
        """Write who asked for the kill, and why."""
        files.replace(self.file("wish.json"), _encode(wish), sync=False)

    def wish(self) -> dict[str, Any] | None:
        """Return who asked for a kill and why; None if there was no request."""
        return self._read("wish.json")

    def removed(self) -> bool:
        """Return whether an engine before schema 5 of the database began to remove this job."""
        return os.path.lexists(self.file(_REMOVED))

    def claim(self, spec: dict[str, Any]) -> bool:
        """Claim the job for starting; return False if it was claimed before."""
        try:
            with self.opened() as path:
                if not _linked(f"{path}/{_RECORD}", f"{path}/spec.json"):
                    files.create(f"{path}/spec.json", _encode(spec))
        except FileNotFoundError:
            self.make()
            return self.claim(spec)
        except FileExistsError:
            return False
        return True

    def unclaim(self) -> None:
        """Undo the claim of a job that was certainly not started; it can be claimed again."""
        with self.opened() as path, contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}/spec.json")

    def claimed(self) -> dict[str, Any] | None:
        """Return the spec of the claim as the engine has sent it; {} if the claim was cut short;
        None if there is none."""
        found = self._read("spec.json", _MOST_SPEC)
        if found is None:
            return None if self.claimed_at() is None else {}
        if isinstance(found.get("spec"), dict):  # it is the job's record as well
            return self.start_message(found["spec"], found.get("owner"), found.get("run_as"))
        return found

    def start_message(
        self, spec: dict[str, Any], owner: str | None, run_as: str | None
    ) -> dict[str, Any]:
        """Return what a supervisor needs of a spec, from the spec's JSON form."""
        message = {name: value for name, value in spec.items() if name not in _NOT_SENT}
        match spec.get("stdin"):
            case {"size": _}:
                message["stdin"] = self.file("stdin")
            case {"file": path}:
                message["stdin"] = path
        return message | {"run_as": run_as, "owner": owner}

    def claimed_at(self) -> float | None:
        """Return when the job was claimed (Unix seconds), also if the claim is incomplete."""
        try:
            with self.opened() as path:
                return os.lstat(f"{path}/spec.json").st_mtime
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            return None

    def write_pid(self, pid: Pid) -> None:
        """Record which process the leader is; readers ignore an incomplete record."""
        with self.opened() as path:
            name, data = f"{path}/pid.json", _encode(vars(pid))
            try:
                files.create(name, data)
            except FileExistsError:
                files.replace(name, data, sync=False)

    def pid(self) -> Pid | None:
        """Return which process the leader is; None if that is not recorded."""
        return _load(Pid, self._read("pid.json"))

    def write_kill(self, kill: Kill) -> None:
        """Record a kill that has begun."""
        with self.opened() as path:
            files.replace(f"{path}/kill.json", _encode(vars(kill)), sync=False)

    def kill(self) -> Kill | None:
        """Return the kill that has begun; None if there is none."""
        return _load(Kill, self._read("kill.json"))

    def write_start(self, starts: dict[str, int]) -> None:
        """Record, for each stream that lost its oldest bytes, the offset of the first byte kept."""
        with self.opened() as path:
            files.replace(f"{path}/start.json", _encode(starts), sync=False)

    def starts(self) -> dict[str, int]:
        """Return the offset of the first byte kept, for each stream that is not complete."""
        found = self._read("start.json") or {}
        return {name: found[name] for name in STREAMS if _is_int(found.get(name))}

    def write_exit(self, end: Exit, *, sync: bool) -> None:
        """Record how the job ended, even if somebody has removed its directory."""
        data = _encode(end.to_dict())
        try:
            self._write_exit(data, sync=sync)
        except FileNotFoundError:
            self.make()
            self._write_exit(data, sync=sync)

    def _write_exit(self, data: bytes, *, sync: bool) -> None:
        with self.opened() as path:
            name = f"{path}/exit.json"
            try:
                if not sync:
                    files.create(name, data)
                    return
            except FileExistsError:  # half of it, by a supervisor that was killed
                pass
            files.replace(name, data, sync=sync)

    def exit(self) -> Exit | None:
        """Return how the job ended; None if that is not recorded."""
        found = self._read("exit.json")
        return None if found is None else Exit._read(found)

    def _read(self, name: str, most: int = _MOST_RECORD) -> dict[str, Any] | None:
        try:
            with self.opened() as path:
                found = json.loads(files.read_regular(f"{path}/{name}", most))
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            return None
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def _linked(record: str, claim: str) -> bool:
    """Make the claim a second name of the record; False if that is not possible here.

    Raises FileExistsError if there is a claim.
    """
    try:
        os.link(record, claim, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        return False
    os.utime(claim, follow_symlinks=False)  # when it was claimed: `claimed_at`
    return True


def make_private_dir(path: str) -> None:
    """Create a directory (mode 0700) unless it exists."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        os.mkdir(path, files.PRIVATE_DIR)
    except FileExistsError:
        return


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _encode(value: object) -> bytes:
    return encoding.compact_json(value).encode("ascii")


def is_id(value: object) -> bool:
    """Return whether a value is a job id in the form that is used in paths."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


_Record = TypeVar("_Record", Pid, Kill, Exit)


def _load(kind: type[_Record], found: dict[str, Any] | None, **more: Any) -> _Record | None:
    """Return a record from what a file holds, None if it is not one; `more` is not in the file.

    Fields of a later release are ignored.
    """
    if found is None:
        return None
    given = {}
    for name, (fits, may_be_none) in _CHECKS[kind].items():
        if name in found:
            value = given[name] = found[name]
            if not (may_be_none and value is None) and not fits(value):
                return None
    if "cause" in given:
        given["cause"] = _CAUSES[given["cause"]]
    try:
        return kind(**given, **more)
    except TypeError:  # a field is missing
        return None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


_MOST = 1 << 63


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and -_MOST < value < _MOST  # type: ignore[operator]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_ints(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_int, value))


def _is_enforced(value: object) -> bool:
    return isinstance(value, dict) and all(
        each is None or isinstance(each, str) for each in value.values()
    )


_CAUSES = {cause.value: cause for cause in Cause}

_FITS: dict[Any, Callable[[Any], bool]] = {
    "int": _is_int,
    "float": _is_number,
    "str": _is_text,
    "bool": lambda value: isinstance(value, bool),
    "list[int]": _are_ints,
    "dict[str, str | None]": _is_enforced,
    "Cause": lambda value: isinstance(value, str) and value in _CAUSES,
}
"""Type of a field, as it is written, without None -> whether a value fits."""

_USAGE_FITS = {name: _FITS[kind.__name__] for name, kind in usage.TYPES.items()}
_CHECKS: dict[Any, dict[str, tuple[Callable[[Any], bool], bool]]] = {
    kind: {
        each.name: (_FITS[fits], each.type != fits)
        for each in fields(kind)
        if (fits := str(each.type).removesuffix(" | None")) in _FITS
    }
    for kind in (Pid, Kill, Exit)
}
"""For each field, whether a value fits and whether it may be None."""
