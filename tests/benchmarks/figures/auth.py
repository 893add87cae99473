"""What the login of each request costs, once the pair of name and password is known.

The same route of two daemons, one of which lets everybody in.
"""

from __future__ import annotations

from benchmarks import wrk
from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate
from benchmarks.service import OpenService, Service, source_tree

_PATH = "/whoami"
_CONNECTIONS = 8


def measure(bench: Bench) -> list[Row]:
    """Measure requests a second."""
    seconds = bench.pick(3, 1)
    with (
        Service(bench.directory / "closed") as closed,
        OpenService(bench.directory / "open", start=False) as unlocked,
    ):
        unlocked.environment = source_tree()
        unlocked.start()

        def rate(service: Service) -> float:
            return wrk.requests_per_second(
                service, _PATH, connections=_CONNECTIONS, seconds=seconds
            )

        found = alternate(
            {"with": lambda: rate(closed), "without": lambda: rate(unlocked)}, bench.pick(5, 3)
        )
    return [
        Row(
            "requests with a login",
            "per second",
            found["with"],
            "without",
            found["without"],
            Target(least=0.9),
        )
    ]
