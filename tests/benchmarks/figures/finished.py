"""Whether a million finished jobs make a list, the metrics, a start or a removal slower.

Two stores, one with 10,000 finished jobs and one with a million; what is measured is the store
alone, without HTTP. Each job has a name and two labels.
"""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from worker_core import JobSpec, State
from worker_core.model.job import Job
from worker_core.store import listing, records
from worker_core.store.listing import Filter
from worker_core.store.removal import Remover
from worker_core.store.store import Store

from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate, percentile
from benchmarks.service import Service

_FEW = 10_000
_OWNER = "demo"
_CALLS = 20  # of which the median counts
_MILLI = 1000


def measure(bench: Bench) -> list[Row]:
    """Measure lists, metrics, restarting and removing."""
    count = bench.pick(1_000_000, 100_000)
    rounds = bench.pick(7, 3)
    service = Service(bench.directory / "many", start=False)
    service.start()  # makes the state directory
    service.stop()
    fill(str(service.state_dir / "worker.db"), count)
    starts = []
    for _ in range(rounds + 1):
        starts.append(service.time_start())
        service.stop()
    many = Store(str(service.state_dir / "worker.db"))
    few = Store(str(bench.directory / "few.db"))
    try:
        few.close()
        fill(str(bench.directory / "few.db"), _FEW)
        few = Store(str(bench.directory / "few.db"))
        rows = list(_searches(few, many, count, rounds))
        rows.append(
            Row(
                f"workerd restarts until it listens, {count:,} finished jobs",
                "s",
                starts[1:],  # the first one has nothing in memory
                target=Target(most=1.0),
            )
        )
        rows += _removal(many, str(service.state_dir), count)
    finally:
        few.close()
        many.close()
    return rows


def fill(path: str, count: int) -> None:
    """Put finished jobs into a database that no engine has open, a second apart."""
    Store(path, durable=False).close()
    chance = random.Random(7)
    spec = JobSpec("echo", ["hello"], name="nightly", labels={"project": "x", "stage": "build"})
    text = json.dumps(spec.to_dict(), separators=(",", ":"))
    first = time.time() - count

    def jobs() -> Iterator[tuple[Any, ...]]:
        for number in range(count):
            job_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
            at = first + number
            yield job_id, number, _OWNER, text, at, at, at + 0.5

    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.executemany(
            "INSERT INTO jobs (id, version, owner, state, name, spec, spec_hash, created_at,"
            " started_at, ended_at, output_bytes)"
            " VALUES (?, ?, ?, 'completed', 'nightly', ?, '', ?, ?, ?, 4096)",
            jobs(),
        )
        for label in listing.label_texts(text):
            db.execute("INSERT INTO labels SELECT owner, ?, seq FROM jobs", (label,))
    db.close()


def _searches(few: Store, many: Store, count: int, rounds: int) -> Iterator[Row]:
    def search(**wanted: Any) -> Callable[[sqlite3.Connection], object]:
        return lambda db: listing.page(db, Filter(_OWNER, **wanted), 50, None)

    later = time.time() + 86400
    calls: dict[str, Callable[[sqlite3.Connection], object]] = {
        "first page": search(),
        "a label without a match": search(labels={"project": "y"}),
        "a name without a match": search(name="weekly"),
        "a status without a match": search(states=[State.FAILED]),
        "a status since a time without a match": search(states=[State.COMPLETED], since=later),
        "an id prefix without a match": search(id_prefix="00000000-0000"),
        "metrics": records.totals,
    }
    for name, call in calls.items():

        def timed(store: Store, call: Callable[[sqlite3.Connection], object] = call) -> float:
            taken = []
            with store.reading() as db:
                for _ in range(_CALLS):
                    begun = time.perf_counter()
                    call(db)
                    taken.append(time.perf_counter() - begun)
            return _MILLI * statistics.median(taken)

        found = alternate({"many": lambda: timed(many), "few": lambda: timed(few)}, rounds)
        yield Row(
            f"{name}, {count:,} finished jobs",
            "ms",
            found["many"],
            f"{_FEW:,} finished jobs",
            found["few"],
            Target(most=1.5),
        )


def _removal(store: Store, state_dir: str, count: int) -> list[Row]:
    """Remove a tenth of the jobs while others are submitted."""
    with store.reading() as db:
        ids = [job.id for job in itertools.islice(records.finished(db), count // 10)]
    done = threading.Event()
    delays: list[float] = []

    def submit() -> None:
        while not done.wait(0.005):
            job = Job(str(uuid.uuid4()), "other", JobSpec("true"), State.QUEUED, time.time())
            begun = time.perf_counter()
            store.write(
                lambda db, job=job: store.jobs.insert(db, job, spec_hash="", idempotency_key=None)
            ).result()
            delays.append(_MILLI * (time.perf_counter() - begun))

    other = threading.Thread(target=submit)
    other.start()
    try:
        begun = time.perf_counter()
        removed = Remover(state_dir, store, lambda: None).remove(ids)
        rate = removed / (time.perf_counter() - begun)
    finally:
        done.set()
        other.join()
    what = f"{len(ids):,} of {count:,} finished jobs are removed"
    return [
        Row(f"{what} (records)", "per second", [rate], target=Target(least=10_000)),
        Row(
            f"a record is written meanwhile, p99, {what}",
            "ms",
            [percentile(delays, 99)],
            target=Target(most=20),
        ),
    ]
