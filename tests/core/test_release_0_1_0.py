"""A state directory that release 0.1.0 left behind opens in this release.

`data/state_0_1_0` was written by an engine of 0.1.0 with two slots, which was killed while two
jobs ran and two waited. Only the boot id was changed, so that its running jobs belong to a boot
that no machine has.
"""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from support.waiting import wait_until
from worker_core import UNKNOWN_OWNER, Engine, JobSpec, StoreUnavailable, rebuild_records
from worker_core.model.state import State
from worker_core.settings import EngineSettings

STATE = Path(__file__).parent / "data" / "state_0_1_0"
SETTINGS = EngineSettings(max_running=2, keep_age=None)


@pytest.fixture
def state_dir(tmp_path):
    """Return a copy with the modes that git does not keep, and the directories without files."""
    copy = tmp_path / "state"
    shutil.copytree(STATE, copy)
    for job_id in ("5a140769-9e55-434a-8c3f-3cf455436894", "3ce6a706-c8c1-433c-921d-369362f37dcf"):
        (copy / "jobs" / job_id).mkdir(exist_ok=True)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return copy


@pytest.fixture
def engine(state_dir):
    with Engine(state_dir, settings=SETTINGS) as engine:
        yield engine


@pytest.fixture
def jobs(engine):
    """Return every job by its name, those that waited having ended."""
    named = {job.spec.name: job.id for job in engine.list(limit=100).jobs}
    for name in ("waiting", "also-waiting"):
        engine.wait(named[name], 30)
    return {name: engine.get(job_id) for name, job_id in named.items()}


def output(engine, job, stream="stdout"):
    return engine.read_output(job.id, stream=stream)


def test_no_job_is_missing(jobs):
    """An upgrade would lose work."""
    assert sorted(jobs) == [
        "also-running",
        "also-waiting",
        "bytes",
        "failed",
        "input",
        "killed",
        "missing",
        "running",
        "timed-out",
        "waiting",
    ]
    assert {name for name, job in jobs.items() if job.owner == "bob"} == {
        "timed-out",
        "also-waiting",
    }


def test_finished_jobs_keep_their_outcome(jobs):
    """Finished jobs would have another outcome after an upgrade."""
    outcomes = {
        name: (job.state, job.exit_code, job.signal)
        for name, job in jobs.items()
        if name in ("bytes", "failed", "input", "killed", "missing", "timed-out")
    }
    assert outcomes == {
        "bytes": (State.COMPLETED, 0, None),
        "failed": (State.FAILED, 3, None),
        "input": (State.COMPLETED, 0, None),
        "killed": (State.KILLED, None, 15),
        "missing": (State.FAILED, 127, None),
        "timed-out": (State.TIMED_OUT, None, 15),
    }
    assert jobs["missing"].reason == "nosuchcommand: command not found"
    assert jobs["killed"].killed_by == "alice"
    assert jobs["bytes"].spec.labels == {"team": "core"}


def test_finished_jobs_keep_their_output(engine, jobs):
    """Every byte that 0.1.0 kept can still be read."""
    assert output(engine, jobs["bytes"]) == b"hello\n\377\376 bytes\n"
    assert output(engine, jobs["failed"]) == b"out\n"
    assert output(engine, jobs["failed"], "stderr") == b"err\n"
    assert output(engine, jobs["input"]) == b"from a client"


def test_jobs_that_ran_are_lost_with_the_reason(engine, jobs):
    """A job of a boot that is over would run for ever in the record, or count as a success."""
    for name in ("running", "also-running"):
        job = jobs[name]
        assert job.state is State.LOST
        assert job.exit_code is None
        assert "the machine was restarted" in job.reason
        assert output(engine, job) == b"begun\n"


def test_jobs_that_waited_run(engine, jobs):
    """The queue would not survive an upgrade."""
    for name in ("waiting", "also-waiting"):
        assert jobs[name].state is State.COMPLETED
        assert output(engine, jobs[name]) == b"it runs\n"


def test_new_jobs_run_beside_the_old_ones(engine, jobs, state_dir):
    """The directory could be read and not be used."""
    job = engine.wait(engine.submit(JobSpec("echo", ["new"]), "alice").id, 30)
    assert job.state is State.COMPLETED
    engine.remove(jobs["bytes"].id)
    wait_until(lambda: not (state_dir / "jobs" / jobs["bytes"].id).exists())


def test_without_its_database_what_ran_is_recovered_and_belongs_to_nobody(state_dir):
    """Whoever loses the database right after an upgrade would lose every output."""
    (state_dir / "worker.db").unlink()
    with pytest.raises(StoreUnavailable, match="is missing, but 10 jobs have a directory"):
        Engine(state_dir, settings=SETTINGS)
    made = rebuild_records(state_dir)
    assert (made.made, len(made.unowned), len(made.aside)) == (8, 8, 2)  # two never began
    with Engine(state_dir, settings=SETTINGS) as engine:
        jobs = [engine.wait(job.id, 30) for job in engine.list(limit=100).jobs]
        assert {job.owner for job in jobs} == {UNKNOWN_OWNER}
        assert Counter(job.state for job in jobs) == {
            State.COMPLETED: 2,
            State.FAILED: 2,
            State.KILLED: 1,
            State.TIMED_OUT: 1,
            State.LOST: 2,
        }
        assert {output(engine, job) for job in jobs} >= {b"from a client", b"out\n", b"begun\n"}


def test_an_older_copy_of_its_database_is_brought_up_to_date(state_dir):
    """What the copy knows, whose jobs they are above all, would be lost."""
    (state_dir / "generation").write_text("7")  # of an engine that has worked here since
    with pytest.raises(StoreUnavailable, match="an older copy"):
        Engine(state_dir, settings=SETTINGS)
    made = rebuild_records(state_dir)
    assert (made.made, made.unowned, made.aside) == (0, [], [])
    with Engine(state_dir, settings=SETTINGS) as engine:
        jobs = {job.spec.name: engine.wait(job.id, 30) for job in engine.list(limit=100).jobs}
        assert {job.owner for job in jobs.values()} == {"alice", "bob"}
        assert jobs["failed"].state is State.FAILED
        assert jobs["running"].state is State.LOST
