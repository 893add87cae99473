"""What a job uses: counted by its cgroup where it has one, else by /proc for the leader alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from worker_core.disk import files
from worker_core.linux import procfs

if TYPE_CHECKING:
    from worker_core.disk.jobdir import JobDir
    from worker_core.model.job import Job, Usage

_CPU = {"user_usec": "user_seconds", "system_usec": "system_seconds"}
SANDBOX_PROCESSES = 2
"""Processes of ours in the group of a job with a pid namespace: see supervisor/namespaces.py."""
_TICK = os.sysconf("SC_CLK_TCK")


def counted(group: str, controllers: Iterable[str], *, pid_namespace: bool) -> dict[str, Any]:
    """Return what a group's controllers counted, by the names of Usage.

    CPU is counted in every group of cgroup v2, with and without its controller.
    """
    found: dict[str, Any] = {}
    for line in _lines(f"{group}/cpu.stat"):
        if line[0] in _CPU:
            found[_CPU[line[0]]] = int(line[1]) / 1e6
    for controller, name in (("memory", "max_rss_bytes"), ("pids", "max_processes")):
        peak = _words(f"{group}/{controller}.peak") if controller in controllers else []
        if peak:
            found[name] = int(peak[0])
    if pid_namespace and "max_processes" in found:
        found["max_processes"] -= SANDBOX_PROCESSES
    if "io" in controllers:
        pairs = [word.split("=") for line in _lines(f"{group}/io.stat") for word in line]
        for name, key in (("read_bytes", "rbytes"), ("written_bytes", "wbytes")):
            found[name] = sum(int(pair[1]) for pair in pairs if pair[0] == key)
    return found


def live(job: Job, directory: JobDir, now: float) -> Usage | None:
    """Return what a running job has used up to now; None if its leader is not there to be asked.

    `now` is seconds since boot.
    """
    from worker_core.model.job import Usage  # here: the supervisor counts too, and needs no records

    leader = directory.pid()
    stat = None if leader is None else procfs.stat(leader.pid)
    if leader is None or stat is None or stat.start_time != leader.start_time:
        return None
    used: dict[str, Any] = {
        "user_seconds": stat.user_ticks / _TICK,
        "system_seconds": stat.system_ticks / _TICK,
        "max_rss_bytes": procfs.peak_memory(leader.pid),
    }
    group = procfs.cgroup(leader.pid)
    if group is not None and os.path.basename(group) == job.id:
        pid_namespace = job.spec.isolation.pid_namespace
        used |= counted(group, _words(f"{group}/cgroup.controllers"), pid_namespace=pid_namespace)
    return Usage(wall_seconds=max(now - since_boot(leader.start_time), 0.0), **used)


def since_boot(start_time: int) -> float:
    """Return the seconds from boot to the start of a process, from its field in proc(5)."""
    return start_time / _TICK


def _lines(path: str) -> list[list[str]]:
    try:
        return [line.split() for line in files.read(path).decode().splitlines() if line.strip()]
    except OSError:
        return []


def _words(path: str) -> list[str]:
    return [word for line in _lines(path) for word in line]
