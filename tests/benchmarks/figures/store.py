"""Whether 100,000 finished jobs in the store make anything slower.

Two daemons, one on a store that is filled with copies of a real job, directories and all.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

from benchmarks import tools, wrk
from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate
from benchmarks.service import Service, memory

_LISTS = 40
_MILLI = 1000
_MEGA = 1e6


def measure(bench: Bench) -> list[Row]:
    """Measure submitting, listing, restarting and memory."""
    tools.find("wrk")
    count = bench.pick(100_000, 10_000)
    rounds = bench.pick(5, 3)
    seconds = bench.pick(2, 1)
    with (
        Service(bench.directory / "full") as full,
        Service(bench.directory / "empty") as empty,
    ):
        connection = full.connect()
        job = connection.run("echo", "hello")
        connection.wait(job)
        connection.close()
        full.stop()
        fill(full.state_dir, job, count)
        restarts = alternate(
            {"full": lambda: _restart(full), "empty": lambda: _restart(empty)}, rounds
        )
        lists = alternate({"full": lambda: _list(full), "empty": lambda: _list(empty)}, rounds)
        rates = alternate(
            {"full": lambda: _submit(full, seconds), "empty": lambda: _submit(empty, seconds)},
            rounds,
        )
        grown = (memory(full.pid) - memory(empty.pid)) / _MEGA
    name = f"{count:,} finished jobs"
    against = "an empty store"
    milliseconds = {side: [_MILLI * each for each in found] for side, found in lists.items()}
    return [
        Row(
            f"jobs through HTTPS, 8 at a time, {name}",
            "per second",
            rates["full"],
            against,
            rates["empty"],
            Target(least=0.95),
        ),
        Row(
            f"first page of the list, {name}",
            "ms",
            milliseconds["full"],
            "a store with a page of jobs",
            milliseconds["empty"],
            Target(most=1.5),
        ),
        Row(
            f"workerd restarts until it listens, {name}",
            "s",
            restarts["full"],
            target=Target(most=2.0),
        ),
        Row(f"memory of workerd grows, {name}", "MB", [grown], target=Target(most=20.0)),
    ]


def fill(state_dir: Path, job: str, count: int) -> None:
    """Put copies of a finished job into the store of a daemon that does not run."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    made = state_dir / "jobs" / job
    files = {entry.name: entry.read_bytes() for entry in made.iterdir()}
    for each in ids:
        path = f"{state_dir}/jobs/{each}"
        os.mkdir(path, 0o700)
        for name, data in files.items():
            with open(os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(data)
    with sqlite3.connect(state_dir / "worker.db") as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        kept = [name for name in columns if name not in ("seq", "id", "version")]
        names = ", ".join(kept)
        (version,) = db.execute("SELECT max(version) FROM jobs").fetchone()
        db.executemany(
            f"INSERT INTO jobs (id, version, {names}) SELECT ?, ?, {names} FROM jobs WHERE id = ?",
            ((each, version + number, job) for number, each in enumerate(ids, 1)),
        )
    db.close()


def _restart(service: Service) -> float:
    if service.running:
        service.stop()
    return service.time_start()


def _list(service: Service) -> float:
    """Return the least of some times: what the list costs, not what else the machine does."""
    connection = service.connect()
    while len(connection.ask("GET", "/jobs")["jobs"]) < 50:
        connection.wait(connection.run("echo", "hello"))
    found = sorted(connection.time("GET", "/jobs") for _ in range(_LISTS))
    connection.close()
    return found[len(found) // 2]


def _submit(service: Service, seconds: int) -> float:
    return wrk.jobs_per_second(service, connections=8, seconds=seconds)
