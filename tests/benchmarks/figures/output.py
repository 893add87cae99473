"""Whether a job writes as fast here as into a file, and what its output costs the daemon.

`dd` writes zeros in pieces of 1 MiB; nothing of ours stands in its way.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate
from benchmarks.service import Service, cpu_seconds


def measure(bench: Bench) -> list[Row]:
    """Measure wall time and CPU time, with all output kept and with the default cap."""
    mebibytes = bench.pick(2048, 512)
    argv = ["dd", "if=/dev/zero", "bs=1M", f"count={mebibytes}", "status=none"]
    path = bench.directory / "file"

    def primed(run: Callable[[], Any]) -> Any:
        # A virtual machine may have to get its memory from the host first, and gives back what is
        # free for a while: with that, whoever comes next takes up to four times as long.
        _into_file(argv, path)
        return run()

    with Service(bench.directory / "service") as service:
        found = alternate(
            {
                "file": lambda: primed(lambda: _into_file(argv, path)),
                "kept": lambda: primed(lambda: _as_job(service, argv, 0)),
                "capped": lambda: primed(lambda: _as_job(service, argv, (mebibytes << 20) // 2)),
            },
            bench.pick(5, 2),
        )
    size = f"{mebibytes / 1024:g} GiB"
    rows = []
    for kind, name in (("kept", "all kept"), ("capped", "half kept")):
        wall = [wall for wall, _ in found[kind]]
        rows.append(
            Row(
                f"a job writes {size}, {name}",
                "s",
                wall,
                "the same command > file",
                found["file"],
                Target(most=1.05),
            )
        )
        rows.append(
            Row(
                f"CPU of workerd and supervisor meanwhile, {name}",
                "% of the job's",
                [share for _, share in found[kind]],
                target=Target(most=2.0) if kind == "kept" else None,
            )
        )
    return rows


def _into_file(argv: list[str], path: Path) -> float:
    with path.open("wb") as file:
        begun = time.perf_counter()
        subprocess.run(argv, stdout=file, check=True)
        taken = time.perf_counter() - begun
    path.unlink()
    return taken


def _as_job(service: Service, argv: list[str], limit: int) -> tuple[float, float]:
    connection = service.connect()
    connection.ask("GET", "/whoami")  # what a new connection costs is not the output's
    ours = (service.pid, service.supervisor)
    before = cpu_seconds(*ours)
    job = connection.run(*argv, output_limit=limit)
    usage = connection.wait(job)["usage"]
    used = cpu_seconds(*ours) - before
    connection.ask("DELETE", f"/jobs/{job}")
    connection.close()
    own = usage["user_seconds"] + usage["system_seconds"]
    return usage["wall_seconds"], 100 * used / own
