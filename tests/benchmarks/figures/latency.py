"""How long one job takes from the request to its recorded end, when nothing else runs.

One warm connection: POST, then wait for the end, /bin/true each time.
"""

from __future__ import annotations

import subprocess
import time

from benchmarks import tools
from benchmarks.bench import Bench
from benchmarks.client import Connection
from benchmarks.rows import Row, Target, alternate, percentile
from benchmarks.service import Service

_MILLI = 1000


def measure(bench: Bench) -> list[Row]:
    """Measure median and 99th percentile."""
    count = bench.pick(200, 100)
    latency = tools.compiled("latency", bench.directory)
    with Service(bench.directory / "service") as service:
        connection = service.connect()
        found = alternate(
            {
                "bare": lambda: _bare(latency, count),
                "ours": lambda: [_one(connection) for _ in range(count)],
            },
            bench.pick(7, 3),
        )
        connection.close()
    against = "fork, exec, wait in C"
    return [
        Row(
            f"one job through HTTPS, {name}",
            "ms",
            [_MILLI * percentile(each, percent) for each in found["ours"]],
            f"{against}, {name}",
            [_MILLI * percentile(each, percent) for each in found["bare"]],
            target,
        )
        for name, percent, target in (("median", 50, Target(most=4.0)), ("p99", 99, None))
    ]


def _bare(program: str, count: int) -> list[float]:
    done = subprocess.run([program, str(count)], check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def _one(connection: Connection) -> float:
    begun = time.perf_counter()
    connection.wait(connection.run("/bin/true"))
    return time.perf_counter() - begun
