"""Removing finished jobs: many at a time, and whole after a crash."""

import contextlib
import os
import sqlite3

import pytest
from support.core import begin, run, shell
from support.waiting import wait_until
from worker_core import Engine, JobSpec, State, rebuild_records
from worker_core.disk.jobdir import JobDir
from worker_core.store import removal


def removals(state_dir):
    with contextlib.closing(sqlite3.connect(state_dir / "worker.db")) as db:
        return db.execute("SELECT count(*) FROM removals").fetchone()[0]


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A state directory whose engine crashed after the commit of a removal; the job's id."""
    with Engine(tmp_path) as engine:
        job = run(engine, shell("echo output"))
        kept = run(engine, JobSpec("true"))
        with monkeypatch.context() as crash:
            crash.setattr(JobDir, "remove", lambda _: None)
            engine.remove(job.id)
    assert (tmp_path / "jobs" / job.id / "spec.json").exists()
    with contextlib.closing(sqlite3.connect(tmp_path / "worker.db")) as db:  # and did not settle
        db.execute("INSERT INTO removals VALUES (?) ON CONFLICT DO NOTHING", (job.id,))
        db.commit()
    return tmp_path, job.id, kept.id


def test_a_removal_that_a_crash_interrupts_is_finished(interrupted):
    """The next start would be refused, for a job that the database seems to have lost."""
    state_dir, _, kept = interrupted
    with Engine(state_dir) as engine:
        wait_until(lambda: os.listdir(state_dir / "jobs") == [kept])
        assert [job.id for job in engine.list().jobs] == [kept]
        wait_until(lambda: removals(state_dir) == 0)
    assert not (state_dir / "set-aside").exists(), "nothing of it is moved aside"


def test_records_that_are_made_again_lack_what_was_removed(interrupted):
    """A job would come back that its owner has removed."""
    state_dir, _, kept = interrupted
    rebuild_records(state_dir)
    with Engine(state_dir) as engine:
        assert [job.id for job in engine.list().jobs] == [kept]
        wait_until(lambda: os.listdir(state_dir / "jobs") == [kept])


def test_many_jobs_are_removed_together(tmp_path, monkeypatch):
    """To prune a million jobs would take an hour, with a flush of the disk for each."""
    monkeypatch.setattr(removal, "_AT_ONCE", 4)
    with Engine(tmp_path) as engine:
        finished = [engine.submit(JobSpec("true"), "me") for _ in range(9)]
        for job in finished:
            engine.wait(job.id, 30)
        running = begin(engine, shell("echo ready; exec sleep 60"))
        commits = []
        writer = engine._store._database._writer
        engine._store.write(lambda _: None).result()
        writer.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
        ids = [job.id for job in finished]
        assert engine.remove_many([*ids, running.id, "unknown", ids[0]]) == 9
        assert len(commits) == 3
        writer.set_trace_callback(None)
        assert [job.id for job in engine.list().jobs] == [running.id]
        assert os.listdir(tmp_path / "jobs") == [running.id]
        assert removals(tmp_path) == 9
        engine._remover.settle()
        wait_until(lambda: removals(tmp_path) == 0)
        assert engine.kill(running.id, now=True).state is State.KILLED


def test_an_engine_that_closes_does_not_wait_for_all_removals(tmp_path, monkeypatch):
    """A daemon that removes a million jobs would not end in time."""
    monkeypatch.setattr(removal, "_AT_ONCE", 1)
    with Engine(tmp_path) as engine:
        ids = [run(engine, JobSpec("true")).id for _ in range(3)]
        answers = iter([False, True])
        assert engine._remover.remove(ids, lambda: next(answers)) == 1
        assert len(engine.list().jobs) == 2
