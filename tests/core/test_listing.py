"""Listing jobs: every filter finds what it should, and costs the same with many finished jobs."""

from __future__ import annotations

import itertools
import random
import sqlite3

import pytest
from worker_core import JobSpec
from worker_core.model.job import Job
from worker_core.model.state import FINAL, State
from worker_core.store import listing, records
from worker_core.store.listing import Filter
from worker_core.store.store import Store

LABELS = [
    {},
    {"a": "1"},
    {"a": "1", "b": "2"},
    {"a": "2"},
    {"\0": "\udcff"},
    {"k" * 150: "v" * 150},
]
NAMES = [None, "build", "b\udcffild", "b?ild", "n" * 200]
OWNERS = ["ann", "bob", "c\u00e4sar"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("listing") / "worker.db"), durable=False)
    yield store
    store.close()


@pytest.fixture(scope="module")
def jobs(store):
    """400 jobs of three owners, the newest last; meanwhile the clock was set back twice."""
    chance = random.Random(7)
    made = []

    def insert(db: sqlite3.Connection) -> None:
        now = 1000.0
        for number in range(400):
            now += chance.choice([0.0, 1.0, 30.0, 90.0])
            if number in (150, 300):
                now -= 5000.0
            spec = JobSpec("true", name=chance.choice(NAMES), labels=chance.choice(LABELS))
            state = chance.choice([*State, State.COMPLETED, State.COMPLETED])
            job_id = f"{chance.getrandbits(64):016x}"
            job = Job(job_id, chance.choice(OWNERS), spec, State.QUEUED, created_at=now)
            store.jobs.insert(db, job, spec_hash="", idempotency_key=None)
            ended = now + chance.choice([1.0, 500.0]) if state.final else None
            store.jobs.save(db, job.replaced(state=state, ended_at=ended))
            made.append(job.replaced(state=state, ended_at=ended))

    store.write(insert).result()
    return made


def matches(job: Job, wanted: Filter) -> bool:
    """Say what each filter means, in the simplest way."""
    return (
        (wanted.owner is None or job.owner == wanted.owner)
        and (not wanted.states or job.state in wanted.states)
        and all(job.spec.labels.get(key) == value for key, value in wanted.labels.items())
        and (wanted.name is None or job.spec.name == wanted.name)
        and (wanted.id_prefix is None or job.id.startswith(wanted.id_prefix))
        and (wanted.since is None or job.created_at >= wanted.since)
        and (
            wanted.ended_before is None
            or (job.ended_at is not None and job.ended_at <= wanted.ended_before)
        )
    )


def listed(store: Store, wanted: Filter, limit: int) -> list[str]:
    """Return the ids of all pages."""
    found: list[str] = []
    cursor = None
    with store.reading() as db:
        while True:
            page, cursor = listing.page(db, wanted, limit, cursor)
            found += [job.id for job in page]
            assert len(page) <= limit
            if cursor is None:
                return found


@pytest.mark.parametrize("many", [3, 1000], ids=["walk", "indexes"])
def test_each_filter_and_pairs_of_them_find_what_they_should(store, jobs, many, monkeypatch):
    """A user would miss jobs, see those of others, or see one twice, depending on the filter."""
    monkeypatch.setattr(listing, "_MANY", many)  # then the unsorted indexes are passed over
    middle = jobs[200]
    single = {
        "owner": ["ann", "c\u00e4sar", "nobody"],
        "states": [[State.FAILED], [State.QUEUED, State.LOST, State.COMPLETED], FINAL, [*State]],
        "labels": [{"a": "1"}, {"a": "1", "b": "2"}, {"\0": "\udcff"}, {"k" * 150: "v" * 150}],
        "name": ["build", "b\udcffild", "b?ild", "none"],
        "id_prefix": ["", "a", middle.id[:2], middle.id[:5], middle.id, "zz", "%", "A"],
        "since": [0.0, middle.created_at, middle.created_at + 0.5, 1e9],
        "ended_before": [0.0, middle.created_at, 1e9],
    }
    filters = [Filter()]
    filters += [Filter(**{key: value}) for key, values in single.items() for value in values]
    for one, other in itertools.combinations(single, 2):
        filters += [
            Filter(**{one: first, other: second})
            for first, second in zip(single[one], itertools.cycle(single[other]), strict=False)
        ]
    for wanted in filters:
        expected = [job.id for job in reversed(jobs) if matches(job, wanted)]
        assert listed(store, wanted, 1000) == expected, wanted
        assert listed(store, wanted, 7) == expected, wanted


def test_totals_are_those_of_the_table(store, jobs):
    """`GET /metrics` and retention would go by wrong numbers."""

    def change(db: sqlite3.Connection) -> None:
        finished = [job for job in jobs if job.state.final]
        for size, job in enumerate(finished):
            store.jobs.set_output_bytes(db, job.id, size)
        removed = finished[::3]
        assert set(store.jobs.remove(db, [job.id for job in removed])) == {j.id for j in removed}
        for job in removed:
            jobs.remove(job)

    store.write(change).result()
    with store.reading() as db:
        states, size = records.totals(db)
        kept = records.kept(db)
        expected = db.execute(
            "SELECT owner, count(*), sum(output_bytes) FROM jobs WHERE ended_at NOT NULL GROUP BY 1"
        ).fetchall()
        (labels,) = db.execute("SELECT count(*) FROM labels").fetchone()
    assert states == {
        state.value: sum(job.state is state for job in jobs)
        for state in State
        if any(job.state is state for job in jobs)
    }
    assert {owner: (each.jobs, each.output_bytes) for owner, each in kept.items()} == {
        owner: (count, size) for owner, count, size in expected
    }
    assert size == sum(row[2] for row in expected)
    assert labels == sum(len(job.spec.labels) for job in jobs)


def steps(db: sqlite3.Connection, call: object) -> int:
    """Return how many instructions of SQLite's machine a call takes, in hundreds."""
    taken = itertools.count()
    db.set_progress_handler(lambda: next(taken) < 0, 100)
    try:
        call(db)  # type: ignore[operator]
    finally:
        db.set_progress_handler(None, 0)
    return next(taken)


def fill(store: Store, count: int) -> None:
    """Add so many finished jobs, a second apart, by one owner."""

    def insert(db: sqlite3.Connection) -> None:
        spec = '{"command":"true","name":"build","labels":{"a":"1"}}'
        (first,) = db.execute("SELECT coalesce(max(seq), 0) + 1 FROM jobs").fetchone()
        db.executemany(
            "INSERT INTO jobs (id, version, owner, state, name, spec, spec_hash, created_at,"
            " ended_at, output_bytes) VALUES (?, ?, 'ann', 'completed', 'build', ?, '', ?, ?, 1)",
            (
                (f"{n * 0x9E3779B97F4A7C15 % (1 << 64):016x}", n, spec, float(n), n + 0.5)
                for n in range(first, first + count)
            ),
        )
        db.executemany(
            "INSERT INTO labels VALUES ('ann', ?, ?)",
            ((listing.label_text("a", "1"), n) for n in range(first, first + count)),
        )

    store.write(insert).result()


def test_no_filter_costs_more_with_more_finished_jobs(tmp_path):
    """On a server that has run for a year, each list would take a second, for all its users."""
    store = Store(str(tmp_path / "worker.db"), durable=False)

    def searched(**wanted):
        return lambda db: listing.page(db, Filter(**wanted), 50, None)

    calls = {
        "first page": searched(owner="ann"),
        "label without a match": searched(owner="ann", labels={"a": "none"}),
        "label": searched(owner="ann", labels={"a": "1"}),
        "label of everybody": searched(labels={"a": "none"}),
        "name without a match": searched(owner="ann", name="none"),
        "name": searched(owner="ann", name="build"),
        "state without a match": searched(owner="ann", states=[State.LOST]),
        "active states": searched(owner="ann", states=[State.QUEUED, State.RUNNING]),
        "state and since": searched(owner="ann", states=[State.COMPLETED], since=1e9),
        "since": searched(owner="ann", since=1e9),
        "id": searched(owner="ann", id_prefix=f"{0x9E3779B97F4A7C15:016x}"),
        "prefix without a match": searched(owner="ann", id_prefix="zz"),
        "ended before any": searched(owner="ann", ended_before=0.0),
        "totals": records.totals,
        "kept": records.kept,
        "last version": records.last_version,
    }
    fill(store, 1000)
    with store.reading() as db:
        few = {name: steps(db, call) for name, call in calls.items()}
    fill(store, 9000)
    with store.reading() as db:
        many = {name: steps(db, call) for name, call in calls.items()}
    store.close()
    grown = {name: (few[name], many[name]) for name in calls if many[name] > few[name] * 1.5 + 5}
    assert grown == {}


def test_the_index_of_active_jobs_has_every_active_state():
    """Jobs in a new state that is not final would not be listed, nor found again at a restart."""
    active = ", ".join(f"'{state.value}'" for state in State if not state.final)
    assert f"state IN ({active})" == listing._IS_ACTIVE
    assert listing._IS_ACTIVE in records.QUERIES["active"]
    assert listing._IS_ACTIVE in records.QUERIES["totals"]
    assert listing._IS_ACTIVE in records.MIGRATIONS[0]
