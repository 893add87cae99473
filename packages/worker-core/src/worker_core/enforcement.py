"""From the limits of a spec to what enforces each: files of the job's cgroup, or rlimits."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from worker_core.disk import files
from worker_core.linux import procfs

_PERIOD = 100_000  # microseconds: the period of cpu.max

CGROUP_LIMITS = {"memory": "memory", "cpus": "cpu", "pids": "pids", "io": "io"}
"""Limit -> the cgroup v2 controller that it needs."""

RLIMITS = {
    "cpu_time": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
}


class UnenforceableError(Exception):
    """A limit cannot be enforced here; the message names the limit, the reason and the cure."""


@dataclass(frozen=True)
class Plan:
    """What has to be set for a job, and what its record will say about it."""

    group_files: list[tuple[str, str]] = field(default_factory=list)
    rlimits: list[tuple[int, int, int]] = field(default_factory=list)  # resource, soft, hard
    enforced: dict[str, str | None] = field(default_factory=dict)  # cgroup, rlimit or nothing


def plan(limits: dict[str, Any], controllers: Collection[str], cure: str, cwd: str) -> Plan:
    """Return how each limit is enforced; raise UnenforceableError unless `best_effort`."""
    made = Plan()
    for name, value in limits.items():
        if name == "best_effort":
            continue
        try:
            if name in RLIMITS:
                made.rlimits.append(_rlimit(name, value))
                made.enforced[name] = "rlimit"
            else:
                made.group_files.extend(_group_files(name, value, controllers, cure, cwd))
                made.enforced[name] = "cgroup"
        except UnenforceableError:
            if not limits.get("best_effort"):
                raise
            made.enforced[name] = None
    return made


def unenforceable(
    limits: dict[str, Any], controllers: Collection[str], cure: str, open_files: int | None = None
) -> dict[str, str]:
    """Return a message for each limit that this machine cannot enforce.

    `open_files` is the highest possible limit on open files, None if it is not known.
    """
    if limits.get("best_effort"):
        return {}
    missing = {
        name: _missing(name, cure)
        for name in limits
        if name in CGROUP_LIMITS and CGROUP_LIMITS[name] not in controllers
    }
    if open_files is not None and limits.get("open_files", 0) > open_files:
        missing["open_files"] = _too_many(open_files)
    return missing


def without_controller() -> list[str]:
    """Return the limits for which this machine has no cgroup v2 controller.

    Whether a supervisor may use the existing controllers depends on its unit; only the supervisor
    can find that out.
    """
    mount = procfs.cgroup2_mount()
    there = b"" if mount is None else files.read(f"{mount}/cgroup.controllers")
    known = there.decode().split()
    return [name for name, controller in CGROUP_LIMITS.items() if controller not in known]


def _missing(name: str, cure: str) -> str:
    return (
        f"cannot be enforced here: it needs the cgroup v2 controller {CGROUP_LIMITS[name]}; {cure}"
    )


def _rlimit(name: str, value: float) -> tuple[int, int, int]:
    kind, soft = RLIMITS[name], math.ceil(value)
    # A soft limit on CPU time causes SIGXCPU; the hard limit, one second later, causes SIGKILL.
    hard = soft + 1 if name == "cpu_time" else soft
    if name == "open_files" and hard > most_files():
        raise UnenforceableError(f"open_files {_too_many(most_files())}")
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:  # a lower limit of ours keeps what was asked for, too
        soft, hard = min(soft, most), min(hard, most)
    return kind, soft, hard


def most_files() -> int:
    """Return the highest limit on open files that this process can give a job."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most


def _too_many(most: int) -> str:
    return (
        f"cannot be more than {most} here: start the supervisor with a higher limit (LimitNOFILE= "
        "of its unit)"
    )


def _group_files(
    name: str, value: Any, controllers: Collection[str], cure: str, cwd: str
) -> list[tuple[str, str]]:
    if CGROUP_LIMITS[name] not in controllers:
        raise UnenforceableError(f"{name} {_missing(name, cure)}")
    return _FILES[name](value, cwd)


def _memory(value: int, _: str) -> list[tuple[str, str]]:
    return [("memory.max", str(value)), ("memory.swap.max", "0"), ("memory.oom.group", "1")]


def _cpus(value: float, _: str) -> list[tuple[str, str]]:
    return [("cpu.max", f"{max(round(value * _PERIOD), 1000)} {_PERIOD}")]


def _io(value: dict[str, int], cwd: str) -> list[tuple[str, str]]:
    keys = {"read": "rbps", "write": "wbps"}
    wanted = " ".join(f"{keys[name]}={each}" for name, each in value.items())
    return [("io.max", f"{_disk(cwd)} {wanted}")]


def _disk(path: str) -> str:
    """Return major:minor of the whole disk under a path; io.max takes no partition."""
    try:
        device = os.stat(path).st_dev
    except OSError as error:
        raise UnenforceableError(f"io cannot be enforced: {path}: {error.strerror}") from error
    major, minor = os.major(device), os.minor(device)
    place = f"/sys/dev/block/{major}:{minor}"
    if major == 0 or not os.path.exists(place):
        raise UnenforceableError(
            f"io cannot be enforced: the file system of {path} is not on a disk of its own"
        )
    if not os.path.exists(f"{place}/partition"):
        return f"{major}:{minor}"
    with open(os.path.join(os.path.realpath(place), "..", "dev")) as file:
        return file.read().strip()


_FILES: dict[str, Callable[[Any, str], list[tuple[str, str]]]] = {
    "memory": _memory,
    "cpus": _cpus,
    "pids": lambda value, _: [("pids.max", str(value))],
    "io": _io,
}
