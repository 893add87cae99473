"""Measures what a job uses: from its cgroup where it has one, else from /proc for its leader."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from worker_core.disk import files
from worker_core.linux import procfs
from worker_core.model.usage import COUNTERS, Usage

if TYPE_CHECKING:
    from worker_core.disk.jobdir import JobDir
    from worker_core.model.job import Job

SANDBOX_PROCESSES = 2
"""Processes of ours in the cgroup of a job with a pid namespace: see supervisor/namespaces.py."""
_TICK = os.sysconf("SC_CLK_TCK")
_ALWAYS = "cpu"  # cgroup v2 counts CPU time in every cgroup, also without the controller


def counted(group: str, controllers: Iterable[str], *, pid_namespace: bool) -> dict[str, Any]:
    """Return what a cgroup's controllers counted, by the names of Usage."""
    totals = {name: _totals(group, name) for name in _files(frozenset(controllers))}
    found: dict[str, Any] = {}
    for name, counter in COUNTERS.items():
        values = totals.get(counter.file)
        if values is None or (values and counter.key not in values):
            continue
        total = values.get(counter.key, 0)  # io.stat is empty until something is read or written
        found[name] = total if counter.units == 1 else total / counter.units
    if pid_namespace and "max_processes" in found:
        found["max_processes"] -= SANDBOX_PROCESSES
    return found


def live(job: Job, directory: JobDir, now: float) -> Usage | None:
    """Return what a running job has used so far; None if its leader no longer runs.

    `now` is seconds since boot.
    """
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
        controllers = (_read(f"{group}/cgroup.controllers") or b"").decode().split()
        used |= counted(group, controllers, pid_namespace=job.spec.isolation.pid_namespace)
    return Usage(wall_seconds=max(now - since_boot(leader.start_time), 0.0), **used)


def since_boot(start_time: int) -> float:
    """Return the seconds from boot to the start of a process, from its field in proc(5)."""
    return start_time / _TICK


@functools.cache
def _files(controllers: frozenset[str]) -> frozenset[str]:
    """Return the files in which a cgroup with these controllers counts something."""
    counting = {*controllers, _ALWAYS}
    return frozenset(each.file for each in COUNTERS.values() if each.controller in counting)


def _totals(group: str, name: str) -> dict[str, int] | None:
    """Return the values in a cgroup's file, by key; None if nothing is counted there.

    A file is either one number, which has the key "", or lines of "KEY NUMBER", or lines of
    "DEVICE KEY=NUMBER …", of which the numbers of all devices are added up.
    """
    data = _read(f"{group}/{name}")
    if data is None:
        return None
    totals: dict[str, int] = {}
    for line in data.decode().splitlines():
        match line.split():
            case [number]:
                totals[""] = int(number)
            case [key, number] if number.isdecimal():
                totals[key] = int(number)
            case [_, *pairs]:
                for key, _, number in (pair.partition("=") for pair in pairs):
                    totals[key] = totals.get(key, 0) + int(number)
    return totals


def _read(path: str) -> bytes | None:
    try:
        return files.read(path)
    except OSError:
        return None
