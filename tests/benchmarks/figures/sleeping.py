"""What 1,000 jobs cost that do nothing."""

from __future__ import annotations

import threading

from support.waiting import wait_until

from benchmarks.bench import Bench
from benchmarks.client import Connection
from benchmarks.rows import Row, Target
from benchmarks.service import Service, cpu_seconds, memory

_ASKED = 200
_MILLI = 1000
_MEGA = 1e6


def measure(bench: Bench) -> list[Row]:
    """Measure CPU, memory and the time of a status."""
    jobs = bench.pick(1000, 200)
    seconds = bench.pick(5.0, 2.0)
    rounds = bench.pick(4, 2)
    with Service(bench.directory / "service", max_running=2 * jobs + 20) as service:
        connection = service.connect()
        asked = connection.run("true")
        for _ in range(jobs + 10):  # so that it is none of the latest, before as after
            connection.run("true")
        connection.wait(asked)
        path = f"/jobs/{asked}/status"
        before = [_median(connection, path) for _ in range(rounds)]
        for _ in range(jobs):
            last = connection.run("sleep", "3600")
        wait_until(
            lambda: connection.ask("GET", f"/jobs/{last}/status")["started_at"] is not None, 30
        )
        both = (service.pid, service.supervisor)
        idle = [_cpu_share(seconds, *both) for _ in range(rounds)]
        after = [_median(connection, path) for _ in range(rounds)]
        used = memory(service.supervisor) / _MEGA
        connection.close()
    name = f"{jobs:,} jobs sleep"
    what = f"CPU of workerd and supervisor, {name}"
    return [
        Row(what, "% of a core", idle, target=Target(most=1.0)),
        Row(f"memory of the supervisor, {name}", "MB", [used], target=Target(most=40.0)),
        Row(f"status, {name}", "ms", after, "no job runs", before, Target(most=1.2)),
    ]


def _median(connection: Connection, path: str) -> float:
    found = sorted(connection.time("GET", path) for _ in range(_ASKED))
    return _MILLI * found[_ASKED // 2]


def _cpu_share(seconds: float, *pids: int) -> float:
    before = cpu_seconds(*pids)
    threading.Event().wait(seconds)
    return 100 * (cpu_seconds(*pids) - before) / seconds
