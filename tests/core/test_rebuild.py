"""The records of a state directory are made again from the directories of its jobs."""

import json
import os
import shutil
import sqlite3
import uuid

import pytest
from support.core import begin, run, shell, waiting_for
from support.waiting import wait_until
from worker_core import (
    UNKNOWN_OWNER,
    Engine,
    EngineSettings,
    JobNotFound,
    JobSpec,
    State,
    StateDirInUse,
    StoreUnavailable,
    rebuild_records,
)
from worker_core.disk.jobdir import JobDir
from worker_core.store import backups
from worker_core.testing.fakes import FakeExecutor


def lose_database(state_dir, *, copies=False):
    """Lose the database, and its copies unless they are kept."""
    for rest in ("", "-wal", "-shm"):
        (state_dir / f"worker.db{rest}").unlink(missing_ok=True)
    if not copies:
        shutil.rmtree(state_dir / "backups", ignore_errors=True)


def shown(job):
    """Return a record without what changes while it runs."""
    return job.replaced(version=0, usage=None, duration=None)


def test_records_are_made_again_as_they_were(tmp_path):
    """After the loss of a database the owners and the outcomes of jobs would be lost."""
    with Engine(tmp_path) as engine:
        spec = shell("cat; exit 3", name="\udcff", labels={"a": "漢"}, stdin=b"in", timeout=60)
        failed = engine.wait(engine.submit(spec, "ann", idempotency_key="k").id, 20)
        missing = run(engine, JobSpec("echi"), owner="bob")
        running = begin(engine, shell("echo ready; sleep 600"), owner="bob")
        killed = engine.kill(running.id, by="eve", reason="why not", wait=20)
    lose_database(tmp_path)
    made = rebuild_records(tmp_path)
    assert (made.base, made.made, made.unowned, made.aside) == (None, 3, [], [])
    assert made.states == {"failed": 2, "killed": 1}
    with Engine(tmp_path) as engine:
        for job in (failed, missing, killed):
            again = engine.get(job.id)
            assert shown(again) == shown(job)
            assert again.usage == job.usage
        assert engine.read_output(failed.id) == b"in"
        assert [job.id for job in engine.list(owner="ann", labels={"a": "漢"}).jobs] == [failed.id]
        assert engine.submit(spec, "ann", idempotency_key="k").id == failed.id, "the key is known"
        assert engine.statistics().output_bytes > 0


def test_running_and_waiting_jobs_are_taken_up(tmp_path):
    """A running job would go on unseen, and one that waits would never start."""
    settings = EngineSettings(max_running=1)
    go = tmp_path / "go"
    with Engine(tmp_path, settings=settings) as engine:
        runs = begin(engine, shell(waiting_for(go) + "; exit 4"), owner="ann")
        waits = engine.submit(shell("exit 5"), "bob")
        refused = engine.submit(shell("exit 6"), "bob")
        assert engine.kill(refused.id, by="bob", reason="no").state is State.KILLED
    lose_database(tmp_path)
    assert rebuild_records(tmp_path).states == {"running": 1, "queued": 1, "killed": 1}
    with Engine(tmp_path, settings=settings) as engine:
        assert shown(engine.get(runs.id)) == shown(runs)
        assert engine.get(waits.id).state is State.QUEUED
        killed = engine.get(refused.id)
        assert (killed.state, killed.killed_by, killed.reason) == (
            State.KILLED,
            "bob",
            "killed by bob: no",
        )
        go.touch()
        assert engine.wait(runs.id, 20).exit_code == 4
        assert engine.wait(waits.id, 20).exit_code == 5
        assert engine.read_output(runs.id) == b"ready\n"


def test_a_job_that_ends_meanwhile_keeps_its_true_end(tmp_path):
    """Whoever needs an hour to recover would find jobs that run for ever."""
    go = tmp_path / "go"
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(waiting_for(go) + "; exit 4"))
    lose_database(tmp_path)
    assert rebuild_records(tmp_path).states == {"running": 1}
    go.touch()
    wait_until((tmp_path / "jobs" / job.id / "exit.json").exists)
    with Engine(tmp_path) as engine:
        assert engine.wait(job.id, 20).exit_code == 4


def test_what_release_0_1_0_left_belongs_to_nobody(tmp_path):
    """A job whose owner is not known would go to another user, or be lost."""
    go = tmp_path / "go"
    with Engine(tmp_path) as engine:
        ended = run(engine, shell("cat; exit 3", stdin=b"input"), owner="ann")
        runs = begin(engine, shell(waiting_for(go)), owner="bob")
    never = JobDir(str(tmp_path), str(uuid.uuid4()))
    os.mkdir(never.path)
    open(never.file("stdin"), "w").close()
    for job in (ended, runs):
        (tmp_path / "jobs" / job.id / "record.json").unlink()
    lose_database(tmp_path)
    made = rebuild_records(tmp_path)
    assert sorted(made.unowned) == sorted([ended.id, runs.id])
    assert made.aside == [str(tmp_path / "set-aside" / never.job_id)]
    with Engine(tmp_path) as engine:
        for owner in ("ann", "bob"):
            assert engine.list(owner=owner).jobs == ()
        again = engine.get(ended.id)
        assert (again.owner, again.state, again.exit_code) == (UNKNOWN_OWNER, State.FAILED, 3)
        assert again.spec.args == ended.spec.args
        assert again.spec.to_dict()["stdin"] == {"size": 5}
        assert abs(again.created_at - ended.created_at) < 60
        go.touch()
        assert engine.wait(runs.id, 20).state is State.COMPLETED


def test_the_newest_copy_that_can_be_read_is_the_beginning(tmp_path):
    """What only the database knew would be lost although there is a copy."""
    with Engine(tmp_path) as engine:
        old, gone = run(engine, shell("exit 3"), owner="ann"), run(engine, JobSpec("true"))
        wait_until(lambda: not backups.is_due(str(tmp_path)))
    newest, older = backups.paths(str(tmp_path))
    os.unlink(newest)  # of the start, with nothing in it
    with Engine(tmp_path) as engine:
        wait_until(lambda: not backups.is_due(str(tmp_path)))
        engine.remove(gone.id)
        new = run(engine, shell("exit 4"), owner="bob")
    os.rename(newest, older)
    with open(newest, "wb") as damaged:
        damaged.write(b"x" * 8192)
    (tmp_path / "jobs" / old.id / "record.json").unlink()  # only the copy knows whose it is
    lose_database(tmp_path, copies=True)
    made = rebuild_records(tmp_path)
    assert (made.base, made.made, made.dropped) == (older, 1, [gone.id])
    with Engine(tmp_path) as engine:
        assert shown(engine.get(old.id)) == shown(old)
        assert shown(engine.get(new.id)) == shown(new)
        with pytest.raises(JobNotFound):
            engine.get(gone.id)


def test_who_follows_events_misses_none(tmp_path):
    """A client that resumes would hear nothing until the numbers are as high as before."""
    with Engine(tmp_path) as engine:
        run(engine, JobSpec("true"))
        before = engine._store.jobs.version
    lose_database(tmp_path)
    rebuild_records(tmp_path)
    with Engine(tmp_path) as engine:
        assert all(job.version > before for job in engine.list().jobs)


def test_a_job_that_may_have_begun_before_a_restart_of_the_machine_is_lost(tmp_path):
    """A power cut may take the claim of a job: it would run twice."""
    with Engine(tmp_path, executor=FakeExecutor()) as engine:  # which claims nothing
        before, same = (engine.submit(JobSpec("sleep"), "ann") for _ in range(2))
    described = tmp_path / "jobs" / before.id / "record.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"boot_id": "another"}))
    lose_database(tmp_path)
    assert rebuild_records(tmp_path).states == {"lost": 1, "queued": 1}
    with Engine(tmp_path, executor=FakeExecutor()) as engine:
        assert "it is not known whether the job was started" in engine.get(before.id).reason
        wait_until(lambda: engine.get(same.id).state is State.RUNNING)


@pytest.mark.parametrize("rest", ["", "[]", '{"owner": 7}', '{"owner": "ann"}', '{"spec": 1}'])
def test_a_description_that_was_cut_short_is_none(tmp_path, rest):
    """After a power cut a file may be empty; everything else could not be recovered for it."""
    with Engine(tmp_path) as engine:
        job = run(engine, shell("exit 3"), owner="ann")
    (tmp_path / "jobs" / job.id / "record.json").write_text(rest)
    lose_database(tmp_path)
    assert rebuild_records(tmp_path).unowned == [job.id]
    with Engine(tmp_path) as engine:
        assert engine.get(job.id).exit_code == 3


def test_a_claim_that_was_cut_short_is_a_job_all_the_same(tmp_path):
    """What was started would be moved aside, and its end never seen."""
    with Engine(tmp_path) as engine:
        job = run(engine, shell("exit 3"), owner="ann")
    (tmp_path / "jobs" / job.id / "record.json").unlink()
    (tmp_path / "jobs" / job.id / "spec.json").write_text('{"comm')
    lose_database(tmp_path)
    rebuild_records(tmp_path)
    with Engine(tmp_path) as engine:
        again = engine.get(job.id)
        assert (again.spec.command, again.exit_code) == ("unknown", 3)
        json.dumps(again.record_view())


def test_it_may_be_done_twice_and_loses_nothing(tmp_path):
    """Who is not sure whether it has worked would make it worse."""
    with Engine(tmp_path) as engine:
        job = run(engine, shell("exit 3"), owner="ann")
    first, second = rebuild_records(tmp_path), rebuild_records(tmp_path)
    assert first.base == second.base == str(tmp_path / "worker.db")
    assert (first.made, second.made) == (0, 0)
    assert first.replaced != second.replaced
    for replaced in (first.replaced, second.replaced):
        with sqlite3.connect(replaced) as db:
            assert db.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]
        db.close()
    with Engine(tmp_path) as engine:
        assert shown(engine.get(job.id)) == shown(job)


def test_half_a_removal_is_not_undone(tmp_path):
    """What a user has removed would be back."""
    with Engine(tmp_path) as engine:
        job = run(engine, shell("echo secret"))
    (tmp_path / "jobs" / job.id / "removed").touch()
    lose_database(tmp_path)
    assert rebuild_records(tmp_path).states == {}
    with Engine(tmp_path):
        wait_until(lambda: not (tmp_path / "jobs" / job.id).exists())


def test_it_is_refused_while_an_engine_is_at_work(tmp_path):
    """The engine would write into a database that is moved aside."""
    with Engine(tmp_path), pytest.raises(StateDirInUse):
        rebuild_records(tmp_path)


def test_a_later_schema_is_not_replaced_by_a_copy(tmp_path):
    """A downgrade by mistake would cost everything since the copy."""
    with Engine(tmp_path):
        wait_until(lambda: not backups.is_due(str(tmp_path)))
    with sqlite3.connect(tmp_path / "worker.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnavailable, match=r"worker\.db: it has version 99"):
        rebuild_records(tmp_path)
    assert not (tmp_path / "set-aside").exists()


@pytest.mark.parametrize("path", ["nothing", "."])
def test_what_is_not_a_state_directory_is_refused(tmp_path, path):
    """A mistyped path would become a state directory."""
    with pytest.raises(StoreUnavailable, match="it is not a state directory of workerd"):
        rebuild_records(tmp_path / path)
    assert list(tmp_path.iterdir()) == []
