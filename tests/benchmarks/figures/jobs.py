"""How many jobs a second the engine runs, each durable, from submit to the recorded end.

As many threads as there are jobs at a time submit /bin/true, wait for its end, and begin again.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import time

from worker_core import Engine, JobSpec, State

from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate

_SPEC = JobSpec("/bin/true")


def measure(bench: Bench) -> list[Row]:
    """Measure 8 and 64 at a time."""
    count = bench.pick(1000, 300)
    with Engine(bench.directory / "state") as engine:
        found = alternate(
            {
                "posix_spawn": lambda: bench.spawned_per_second(count, 8, "/bin/true"),
                "8": lambda: jobs_per_second(engine, count, 8),
                "64": lambda: jobs_per_second(engine, count, 64),
            },
            bench.pick(7, 3),
        )
    return [
        Row(
            f"jobs through the engine, {at_once} at a time",
            "per second",
            found[at_once],
            "posix_spawn in C, 8 at a time",
            found["posix_spawn"],
            Target(least=0.5),
        )
        for at_once in ("8", "64")
    ]


def jobs_per_second(engine: Engine, count: int, at_once: int) -> float:
    """Run `count` jobs in `at_once` threads."""
    numbers = itertools.count()

    def work() -> None:
        while next(numbers) < count:
            job = engine.submit(_SPEC, "bench")
            if engine.wait(job.id, 60).state is not State.COMPLETED:
                raise RuntimeError(f"job {job.id} has not completed")

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for ended in [pool.submit(work) for _ in range(at_once)]:
            ended.result()
    return count / (time.perf_counter() - begun)
