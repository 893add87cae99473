"""The columns of the database follow from the fields of a record."""

import contextlib
import sqlite3
from dataclasses import fields, replace

from worker_core import Engine, JobSpec
from worker_core.disk.jobdir import Exit
from worker_core.model import usage
from worker_core.model.job import Job
from worker_core.model.kill import KillRequest
from worker_core.model.state import Cause, State
from worker_core.model.usage import Usage
from worker_core.store import records
from worker_core.store.store import Store
from worker_core.testing.fakes import FakeExecutor

FULL = Usage(**{name: kind(n + 1) for n, (name, kind) in enumerate(usage.TYPES.items())})


def stored(tmp_path, job):
    """Return a record as it is read again from a new database."""
    store = Store(str(tmp_path / "db"))
    store.write(lambda db: store.jobs.insert(db, job, spec_hash="", idempotency_key=None)).result()
    store.write(lambda db: store.jobs.save(db, job)).result()
    with store.reading() as db:
        found = records.get(db, job.id)
    store.close()
    return found


def test_every_usage_field_is_stored_sent_and_shown(tmp_path):
    """A field that was added in one place would be lost on its way to the user."""
    job = Job("a", "me", JobSpec("true"), State.COMPLETED, 1.0, usage=FULL, ended_at=2.0)
    assert stored(tmp_path, job).usage == FULL
    assert Exit.from_dict(Exit(Cause.OWN, 0, None, None, 1.0, FULL).to_dict()).usage == FULL
    assert job.status_view()["usage"] == vars(FULL)


def test_every_field_of_a_record_is_stored(tmp_path):
    """A field that was added in one place would be lost when the daemon restarts."""
    examples = {"int | None": 7, "float | None": 7.5, "str | None": "x"}
    given = {each.name: examples.get(str(each.type)) for each in fields(Job)}
    plain = {name: each for name, each in given.items() if each and name not in Job.COMPUTED}
    job = Job("a", "me", JobSpec("true"), State.STOPPING, 1.0, usage=FULL)
    job = replace(job, kill=KillRequest("eve", "old", 2, 3.0), enforced={"cpus": None}, **plain)
    assert len(plain) > 5
    assert stored(tmp_path, job).replaced(version=0) == job


def test_a_column_that_is_missing_is_added(tmp_path):
    """After an upgrade that has one more field, no job could be recorded."""
    with Engine(tmp_path, executor=FakeExecutor()) as engine:
        job = engine.wait(engine.submit(JobSpec("true"), "me").id, 20)
    with contextlib.closing(sqlite3.connect(tmp_path / "worker.db")) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN max_processes")
    with Engine(tmp_path, executor=FakeExecutor()) as engine:
        assert engine.get(job.id).usage == job.usage
        assert engine.wait(engine.submit(JobSpec("true"), "me").id, 20).state is State.COMPLETED
