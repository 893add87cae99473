"""How many jobs a second come through HTTPS with a login, and through other job queues.

wrk holds 8 or 64 connections; on each, a job is POSTed, its end waited for, and the next begun.
The other queues get a few hundred jobs, eight at a time, and are timed until all have ended.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

from benchmarks import rivals, tools, wrk
from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate
from benchmarks.service import Service


def measure(bench: Bench) -> list[Row]:
    """Measure 8 and 64 at a time, and each rival that is installed."""
    tools.find("wrk")
    seconds = bench.pick(3, 1)
    count = bench.pick(300, 100)
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(bench.directory / "service"))
        others = _rivals(bench, stack, count)
        found = alternate(
            {
                "posix_spawn in C, 8 at a time": lambda: bench.spawned_per_second(
                    bench.pick(1000, 300), 8, "/bin/true"
                ),
                "8": lambda: wrk.jobs_per_second(service, connections=8, seconds=seconds),
                "64": lambda: wrk.jobs_per_second(service, connections=64, seconds=seconds),
                **others,
            },
            bench.pick(5, 2),
        )
    spawned = "posix_spawn in C, 8 at a time"
    rows = [
        Row(
            f"jobs through HTTPS, {at_once} at a time",
            "per second",
            found[at_once],
            spawned,
            found[spawned],
            Target(least=0.3),
        )
        for at_once in ("8", "64")
    ]
    for name in others:
        target = Target(least=1.0)
        what = "jobs through HTTPS, 64 at a time"
        rows.append(Row(what, "per second", found["64"], name, found[name], target))
    return rows


def _rivals(
    bench: Bench, stack: contextlib.ExitStack, count: int
) -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {}
    for number, rival in enumerate(rivals.ALL):
        directory = bench.directory / f"rival{number}"
        directory.mkdir()
        made = bench.optional(functools.partial(rival, bench, directory))
        if made is not None:
            stack.enter_context(made)
            found[rival.title] = functools.partial(made.jobs_per_second, count)
    return found
