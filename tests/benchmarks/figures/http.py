"""How many jobs a second come through HTTPS with a login, and through other job queues.

wrk holds 8 or 64 connections. Either each POSTs a job, waits for its end, and begins the next:
this is beside posix_spawn. Or it only POSTs, and the time is up when all have ended: this is beside
the other queues, which get a few hundred jobs in the same way.
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
                "posted": lambda: wrk.jobs_per_second_posted(
                    service, connections=64, seconds=seconds
                ),
                **others,
            },
            bench.pick(5, 2),
        )
    spawned = "posix_spawn in C, 8 at a time"
    rows = [
        Row(
            f"jobs through HTTPS, {at_once} clients that wait for each end",
            "per second",
            found[at_once],
            spawned,
            found[spawned],
            Target(least=0.3),
        )
        for at_once in ("8", "64")
    ]
    what = "jobs through HTTPS, until all have ended"
    for name in [spawned, *others]:
        target = None if name == spawned else Target(least=1.0)
        rows.append(Row(what, "per second", found["posted"], name, found[name], target))
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
