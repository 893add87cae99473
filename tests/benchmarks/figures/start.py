"""How long people wait for the client each time, and how soon the daemon is there.

Whole processes, beside a Python that imports what either cannot do without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate
from benchmarks.service import Service

_MILLI = 1000


def measure(bench: Bench) -> list[Row]:
    """Measure `worker status` against a running daemon, and the start of workerd."""
    with (
        Service(bench.directory / "asked") as asked,
        Service(bench.directory / "started", start=False) as started,
    ):
        connection = asked.connect()
        job = connection.run("true")
        connection.wait(job)
        connection.close()
        environ = _environ(asked, bench.directory)
        worker = str(Path(sys.executable).with_name("worker"))
        client = alternate(
            {
                "ours": lambda: _whole([worker, "status", job], environ),
                "theirs": lambda: _whole([sys.executable, "-c", "import requests"], environ),
            },
            bench.pick(25, 10),
        )
        program = [sys.executable, "-c", "import falcon, waitress"]
        daemon = alternate(
            {"ours": lambda: _start(started), "theirs": lambda: _whole(program, environ)},
            bench.pick(15, 6),
        )
    return [
        Row(
            "worker status, the whole process",
            "ms",
            client["ours"],
            "python -c 'import requests'",
            client["theirs"],
            Target(most=1.3),
        ),
        Row(
            "start of workerd until it listens",
            "ms",
            daemon["ours"],
            "python -c 'import falcon, waitress'",
            daemon["theirs"],
            Target(most=2.5),
        ),
    ]


def _environ(service: Service, home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "WORKER_SERVER": service.url,
        "WORKER_CACERT": str(service.ca),
        "WORKER_USER": service.user,
        "WORKER_PASSWORD": service.password,
    }


def _whole(argv: list[str], environ: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, env=environ, check=True, capture_output=True)
    return _MILLI * (time.perf_counter() - begun)


def _start(service: Service) -> float:
    taken = service.time_start()
    service.stop()
    return _MILLI * taken
