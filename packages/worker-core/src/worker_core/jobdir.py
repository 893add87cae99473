"""A job's directory: the on-disk contract between engine and supervisor.

    jobs/<id>/          mode 0700; made by the engine
        stdin           by the engine before the job is committed, when there is input
        spec.json       by the supervisor before it forks: the claim. A job is started only by who
                        creates this file, so it is started at most once
        output, stderr  created by the supervisor, written by the job itself
        pid.json        by the supervisor once the job has run for a moment: pid, start time, boot
                        id; until then its process is known by its mark (supervisor/tree.py)
        kill.json       by the supervisor before its first signal: why, and when SIGKILL is due
        start.json      by the supervisor: the first byte still kept, per stream
        exit.json       by the supervisor, before anybody is told: what came of it

kill.json, start.json and exit.json appear in one step (`atomic.replace`).
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from typing import Any, Literal

from worker_core import atomic, compact

JOBS = "jobs"
SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
LOG = "supervisor.log"
STREAMS = {"stdout": "output", "stderr": "stderr"}

Cause = Literal["own", "kill", "timeout", "memory", "output_limit", "not_started", "lost"]
"""Why a job ended: by itself, or through whom; decided where it was reaped."""


@dataclass(frozen=True)
class Pid:
    """Which process the leader is; the three together never name another one."""

    pid: int
    start_time: int  # clock ticks after boot, field 22 of /proc/PID/stat
    boot_id: str
    started_at: float  # Unix seconds
    enforced: dict[str, str | None] = field(default_factory=dict)  # limit -> what enforces it


@dataclass(frozen=True)
class Kill:
    """That the end of the job is wanted, so that a new supervisor goes on where the last ended."""

    cause: Cause
    reason: str | None
    signalled: list[int]  # numbers sent so far
    counts: bool  # an exit code after this is still our doing: the leader handles the signal
    kill_at: float  # Unix seconds at which SIGKILL is due
    # The same since boot, which nobody can set; None if a supervisor of 0.1.0 wrote this.
    kill_at_boottime: float | None = None


@dataclass(frozen=True)
class Exit:
    """What came of a job."""

    cause: Cause
    exit_code: int | None
    signal: int | None
    reason: str | None
    ended_at: float
    wall_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    max_rss_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    max_processes: int | None = None
    pid: int | None = None  # of the leader; this and the next two as in Pid, None if it never ran
    started_at: float | None = None
    enforced: dict[str, str | None] = field(default_factory=dict)


class JobDir:
    """Paths and files of one job's directory."""

    def __init__(self, state_dir: str, job_id: str) -> None:
        self.job_id = job_id
        self.path = f"{state_dir}/{JOBS}/{job_id}"

    def file(self, name: str) -> str:
        """Return the path of a file in it."""
        return f"{self.path}/{name}"

    def disk_bytes(self) -> int:
        """Return what the spool files take on the disk; a hole takes nothing."""
        total = 0
        for name in STREAMS.values():
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(self.file(name)).st_blocks * 512
        return total

    def stream(self, stream: str) -> str:
        """Return the path of the spool file of "stdout" or "stderr"."""
        return self.file(STREAMS[stream])

    def remove(self) -> None:
        """Remove everything, as far as that can be; the claim first, without which it is a rest
        that the next engine clears away."""
        import shutil  # slow to import, and not needed by the supervisor

        with contextlib.suppress(OSError):
            os.unlink(self.file("spec.json"))
        shutil.rmtree(self.path, ignore_errors=True)

    def claim(self, spec: dict[str, Any]) -> bool:
        """Claim the job for starting; False if it was claimed before."""
        try:
            atomic.create(self.file("spec.json"), _encode(spec))
        except FileNotFoundError:
            make_private_dir(self.path)
            return self.claim(spec)
        except FileExistsError:
            return False
        return True

    def claimed(self) -> dict[str, Any] | None:
        """Return what the claim holds; {} if it was cut short; None if there is none."""
        found = self._read("spec.json")
        if found is None and os.path.exists(self.file("spec.json")):
            return {}
        return found

    def claimed_at(self) -> float:
        """Return when the job was claimed (Unix seconds), also if the claim was cut short."""
        return os.stat(self.file("spec.json")).st_mtime

    def write_pid(self, pid: Pid) -> None:
        """Record which process the leader is; a reader takes half of it for none."""
        path, data = self.file("pid.json"), _encode(vars(pid))
        try:
            atomic.create(path, data)
        except FileExistsError:
            atomic.replace(path, data, sync=False)

    def pid(self) -> Pid | None:
        """Return which process the leader is, if that was recorded."""
        found = self._read("pid.json")
        return None if found is None else Pid(**found)

    def write_kill(self, kill: Kill) -> None:
        """Record that the end is wanted."""
        atomic.replace(self.file("kill.json"), _encode(vars(kill)), sync=False)

    def kill(self) -> Kill | None:
        """Return how the end is wanted, if it is."""
        found = self._read("kill.json")
        return None if found is None else Kill(**found)

    def write_start(self, starts: dict[str, int]) -> None:
        """Record the first byte still kept of each stream that lost its oldest ones."""
        atomic.replace(self.file("start.json"), _encode(starts), sync=False)

    def starts(self) -> dict[str, int]:
        """Return the first byte still kept per stream; a stream not named is whole."""
        return self._read("start.json") or {}

    def write_exit(self, end: Exit, *, sync: bool) -> None:
        """Record what came of the job, even if somebody has removed its directory."""
        path, data = self.file("exit.json"), _encode(vars(end))
        try:
            atomic.replace(path, data, sync=sync)
        except FileNotFoundError:
            make_private_dir(self.path)
            atomic.replace(path, data, sync=sync)

    def exit(self) -> Exit | None:
        """Return what came of the job, if that was recorded."""
        found = self._read("exit.json")
        return None if found is None else Exit(**found)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads(atomic.read(self.file(name)))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def make_private_dir(path: str) -> None:
    """Make a directory (mode 0700) unless it is there."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        os.mkdir(path, atomic.PRIVATE_DIR)
    except FileExistsError:
        return


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _encode(value: object) -> bytes:
    return compact.encode(value).encode("ascii")
