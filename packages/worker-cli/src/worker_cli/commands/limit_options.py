"""The options of `run` that limit and isolate a job, and the fields they become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker_cli import errors, parsing
from worker_cli.options import AnyOption, Args, Flag, Option

MEMORY = Option(
    "--memory",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="memory of all its processes at most, without swap: 512M, 2G",
)
CPUS = Option(
    "--cpus",
    metavar="N",
    parse=parsing.number_limit,
    about="processors' worth of time at most: 1.5",
)
PIDS = Option(
    "--pids", metavar="N", parse=parsing.count_limit, about="processes and threads at most"
)
IO_READ = Option(
    "--io-read",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="bytes a second to read from the disk at most: 10M",
)
IO_WRITE = Option(
    "--io-write",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="bytes a second to write to it at most",
)
CPU_TIME = Option(
    "--cpu-time",
    metavar="TIME",
    parse=parsing.time_limit,
    about="CPU time of each process at most: 60, 10m",
)
OPEN_FILES = Option(
    "--open-files",
    metavar="N",
    parse=parsing.count_limit,
    about="open files of each process at most",
)
FILE_SIZE = Option(
    "--file-size",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="size of each file at most, its output included: 1G",
)
BEST_EFFORT = Flag("--best-effort", about="run it even where the server cannot enforce a limit")

ISOLATE = Flag("--isolate", about="all of the following four")
PRIVATE_NETWORK = Flag("--private-network", about="no network but a loopback of its own")
PRIVATE_TMP = Flag("--private-tmp", about="an empty /tmp and /var/tmp of its own")
READ_ONLY = Flag("--read-only", about="nothing but its directory can be written")
PID_NAMESPACE = Flag("--pid-namespace", about="no processes can be seen but its own")
WRITABLE = Option(
    "--writable",
    metavar="DIR",
    parse=parsing.text,
    about="except from --read-only what is in this directory of the server; repeatable",
)

_AMOUNTS: Mapping[str, Option[Any]] = {
    "memory": MEMORY,
    "cpus": CPUS,
    "pids": PIDS,
    "cpu_time": CPU_TIME,
    "open_files": OPEN_FILES,
    "file_size": FILE_SIZE,
}
_IO = {"read": IO_READ, "write": IO_WRITE}
_SWITCHES = {
    "private_network": PRIVATE_NETWORK,
    "private_tmp": PRIVATE_TMP,
    "read_only": READ_ONLY,
    "pid_namespace": PID_NAMESPACE,
}

OPTIONS: tuple[AnyOption, ...] = (
    *(MEMORY, CPUS, PIDS, IO_READ, IO_WRITE, CPU_TIME, OPEN_FILES, FILE_SIZE, BEST_EFFORT),
    *(ISOLATE, PRIVATE_NETWORK, PRIVATE_TMP, READ_ONLY, PID_NAMESPACE, WRITABLE),
)

FIELDS: Mapping[str, tuple[AnyOption, ...]] = {
    **{f"limits.{name}": (option,) for name, option in _AMOUNTS.items()},
    **{f"limits.io.{name}": (option,) for name, option in _IO.items()},
    "limits.io": tuple(_IO.values()),
    **{f"isolation.{name}": (flag, ISOLATE) for name, flag in _SWITCHES.items()},
    "isolation.writable": (WRITABLE,),
}
"""The options that a field of the job object comes from."""


def check(args: Args) -> None:
    """Raise UsageError for what contradicts itself."""
    if args.has(WRITABLE) and not (args.has(READ_ONLY) or args.has(ISOLATE)):
        raise errors.UsageError("--writable DIR means something only with --read-only or --isolate")


def limits(args: Args) -> dict[str, Any] | None:
    """Return the job object's `limits`, None when none is asked for."""
    made = _given(args, _AMOUNTS)
    if io := _given(args, _IO):
        made["io"] = io
    if args.has(BEST_EFFORT):
        made["best_effort"] = True
    return made or None


def isolation(args: Args) -> dict[str, Any] | None:
    """Return the job object's `isolation`, None when none is asked for."""
    everything = args.has(ISOLATE)
    made: dict[str, Any] = {
        name: True for name, flag in _SWITCHES.items() if everything or args.has(flag)
    }
    writable = [parsing.lossless(each) for each in args.all(WRITABLE)]
    return (made | ({"writable": writable} if writable else {})) or None


def _given(args: Args, options: Mapping[str, Option[Any]]) -> dict[str, Any]:
    found = {name: args.get(option) for name, option in options.items()}
    return {name: value for name, value in found.items() if value is not None}
