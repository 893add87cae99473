"""The options of `run` that limit and isolate a job, and the fields that they set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker_cli import errors, parsing
from worker_cli.options import AnyOption, Args, Flag, Option

MEMORY = Option(
    "--memory",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="limit the memory of all its processes, without swap: 512M, 2G",
)
CPUS = Option(
    "--cpus",
    metavar="N",
    parse=parsing.number_limit,
    about="limit the CPU time to this many processors: 1.5",
)
PIDS = Option(
    "--pids",
    metavar="N",
    parse=parsing.count_limit,
    about="limit its processes and threads",
)
IO_READ = Option(
    "--io-read",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="limit the bytes read from disk per second: 10M",
)
IO_WRITE = Option(
    "--io-write",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="limit the bytes written to disk per second: 10M",
)
CPU_TIME = Option(
    "--cpu-time",
    metavar="TIME",
    parse=parsing.time_limit,
    about="limit the CPU time of each process: 60, 10m",
)
OPEN_FILES = Option(
    "--open-files",
    metavar="N",
    parse=parsing.count_limit,
    about="limit the open files of each process",
)
FILE_SIZE = Option(
    "--file-size",
    metavar="SIZE",
    parse=parsing.size_limit,
    about="limit the size of each file that it writes, including its output: 1G",
)
BEST_EFFORT = Flag("--best-effort", about="run the job even if the server cannot enforce a limit")

ISOLATE = Flag("--isolate", about="the same as the following four options")
PRIVATE_NETWORK = Flag("--private-network", about="no network except its own loopback")
PRIVATE_TMP = Flag("--private-tmp", about="an empty /tmp and /var/tmp of its own")
READ_ONLY = Flag("--read-only", about="it can write only to its working directory")
PID_NAMESPACE = Flag("--pid-namespace", about="it can see only its own processes")
WRITABLE = Option(
    "--writable",
    metavar="DIR",
    parse=parsing.text,
    about="let it write to this directory too, in spite of --read-only; repeatable",
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
"""The options that set each field of the job object."""


def check(args: Args) -> None:
    """Raise UsageError for options that contradict each other."""
    if args.has(WRITABLE) and not (args.has(READ_ONLY) or args.has(ISOLATE)):
        raise errors.UsageError("--writable DIR needs --read-only or --isolate")


def limits(args: Args) -> dict[str, Any] | None:
    """Return the job object's `limits`, None without any option for them."""
    limits = _values(args, _AMOUNTS)
    if io := _values(args, _IO):
        limits["io"] = io
    if args.has(BEST_EFFORT):
        limits["best_effort"] = True
    return limits or None


def isolation(args: Args) -> dict[str, Any] | None:
    """Return the job object's `isolation`, None without any option for it."""
    everything = args.has(ISOLATE)
    isolation: dict[str, Any] = {
        name: True for name, flag in _SWITCHES.items() if everything or args.has(flag)
    }
    if writable := args.all(WRITABLE):
        isolation["writable"] = [parsing.lossless(directory) for directory in writable]
    return isolation or None


def cure(faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what to do, as a list of at most one, when the server cannot enforce a limit."""
    if any(_is_unenforceable(fault) for fault in faults):
        return [f"to run the job without that limit, add {BEST_EFFORT.names[0]}"]
    return []


def _is_unenforceable(fault: Mapping[str, Any]) -> bool:
    field, message = str(fault.get("field")), str(fault.get("message"))
    reasons = ("cannot be enforced", "cannot be more than")
    return field.startswith("limits.") and any(reason in message for reason in reasons)


def _values(args: Args, options: Mapping[str, Option[Any]]) -> dict[str, Any]:
    values = {name: args.get(option) for name, option in options.items()}
    return {name: value for name, value in values.items() if value is not None}
