"""The cache of records never answers other than the database would."""

from __future__ import annotations

import sqlite3

import pytest
from worker_core import Engine, JobNotFound, JobSpec, Limits, State, StoreUnavailable
from worker_core.model.job import Change, Job
from worker_core.model.state import Cause, Event
from worker_core.store import records
from worker_core.store.store import Store

SPECS = {
    "plain": JobSpec("true"),
    "input": JobSpec("cat", stdin=b"bytes" * 100),
    "raw bytes": JobSpec("echo", ["\udcff"], env={"A": "\udc80"}, name="\udcff", labels={"a": "b"}),
    "not found": JobSpec("no\udcffsuch"),
    "bounded": JobSpec("true", limits=Limits(open_files=100), timeout=9, output_limit=5),
    "large": JobSpec("true", ["x" * 10_000]),
}


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path / "state") as engine:
        yield engine


def both(engine: Engine, job_id: str) -> tuple[Job | None, Job]:
    with engine._store.reading() as db:
        return engine._store.jobs.cache.get(job_id), records.get(db, job_id)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_cache_equals_the_database(engine, spec):
    """A status would differ from what the same job shows after a restart."""
    job = engine.submit(spec, "me")
    ended = engine.wait(job.id, 20)
    kept, stored = both(engine, job.id)
    assert ended == stored
    assert kept == stored


def test_a_killed_job_and_a_removed_one(engine):
    """A removed job would still be shown."""
    job = engine.submit(JobSpec("sleep", ["60"]), "me")
    engine.kill(job.id, by="me", reason="why\udcff", now=True, wait=20)
    kept, stored = both(engine, job.id)
    assert kept == stored
    assert stored.state is State.KILLED
    engine.remove(job.id)
    assert engine._store.jobs.cache.get(job.id) is None
    with pytest.raises(JobNotFound):
        engine.get(job.id)


def test_a_change_that_was_not_committed_is_not_cached(tmp_path):
    """A job would be shown as ended whose end the disk did not take."""
    store = Store(str(tmp_path / "worker.db"))
    job = Job("a", "me", JobSpec("true"), State.RUNNING, created_at=1.0)

    def insert(db: sqlite3.Connection) -> Job:
        return store.jobs.insert(db, job, spec_hash="", idempotency_key=None)

    def end_and_fail(db: sqlite3.Connection) -> None:
        change = Change(Event.END, 2.0, Cause.OWN, exit_code=0)
        assert store.jobs.change(db, "a", change).state is State.COMPLETED
        raise sqlite3.OperationalError("disk full")

    def begun(_db: sqlite3.Connection) -> Job | None:
        return store.jobs.cache.in_transaction("a")

    store.write(insert).result()
    before = store.jobs.cache.get("a")
    with pytest.raises(StoreUnavailable):
        store.write(end_and_fail).result()
    assert store.jobs.cache.get("a") == before
    assert store.write(begun).result() == before
    store.close()


def test_the_cache_is_bounded(engine, monkeypatch):
    """The daemon would grow with every job."""
    monkeypatch.setattr("worker_core.store.cache._MOST", 2)
    jobs = [engine.submit(JobSpec("true"), "me") for _ in range(4)]
    for job in jobs:
        engine.wait(job.id, 20)
    kept = [job.id for job in jobs if engine._store.jobs.cache.get(job.id) is not None]
    assert len(kept) == 2
    assert all(engine.get(job.id).state is State.COMPLETED for job in jobs)
