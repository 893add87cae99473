"""Jobs that wait for others, in a real engine, also across crashes and restarts."""

import os
import signal
import subprocess
import sys

import pytest
from support.waiting import wait_until
from worker_core import (
    After,
    Engine,
    InvalidSpec,
    JobNeeded,
    JobSpec,
    QueueFull,
    State,
    When,
    rebuild_records,
)
from worker_core.engine import lifecycle

FOREVER = JobSpec("sleep", ["1000"])
S, F, E, B = When.SUCCESS, When.FAILURE, When.END, When.START


def child(*parents, **more):
    """Return a job that waits for others, each given as a job and the state that it must reach."""
    return JobSpec("true", after=[After(job.id, when) for job, when in parents], **more)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with Engine(tmp_path_factory.mktemp("state") / "state") as engine:
        yield engine
        for job in engine.list(states=[State.QUEUED, State.RUNNING]).jobs:
            engine.kill(job.id, now=True)


def fails(engine):
    return engine.submit(JobSpec("sh", ["-c", "exit 2"]), "me")


@pytest.mark.parametrize(
    ("code", "when", "state"),
    [
        (0, S, State.COMPLETED),
        (0, F, State.SKIPPED),
        (0, E, State.COMPLETED),
        (0, B, State.COMPLETED),
        (2, S, State.SKIPPED),
        (2, F, State.COMPLETED),
        (2, E, State.COMPLETED),
    ],
)
@pytest.mark.parametrize("ended_before", [False, True])
def test_a_job_starts_or_is_skipped(engine, tmp_path, code, when, state, ended_before):
    """The second step of a job would run although the first failed, or never."""
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit {code}"
    parent = engine.submit(JobSpec("sh", ["-c", script]), "me")
    if ended_before:
        (tmp_path / "go").touch()
        engine.wait(parent.id, 20)
    waiting = engine.submit(child((parent, when)), "me")
    if not ended_before and when is not B:
        assert engine.get(waiting.id).reason.startswith(f"waiting for job {parent.id[:4]}… to ")
    (tmp_path / "go").touch()
    end = engine.wait(waiting.id, 20)
    assert end.state is state
    if state is State.SKIPPED:
        how = "failed (exit code 2)" if code else "completed"
        assert end.reason == f"skipped: job {parent.id[:4]}… {how}"
        assert end.started_at is None


def test_a_job_waits_for_all(engine):
    """The third step would start after the first."""
    first, second = (engine.submit(JobSpec("true", hold=True), "me") for _ in range(2))
    last = engine.submit(child((first, S), (second, E)), "me").id
    engine.update(first.id, hold=False)
    wait_until(lambda: len(engine.get(last).waiting[0].details["jobs"]) == 1)
    engine.update(second.id, hold=False)
    assert engine.wait(last, 20).state is State.COMPLETED


def test_skipped_jobs_skip_others(engine):
    """A chain of steps would wait for ever for the one that was skipped."""
    first = engine.submit(JobSpec("true", hold=True), "me")
    chain = [first]
    for _ in range(5):
        chain.append(engine.submit(child((chain[-1], S)), "me"))
    cleanup = engine.submit(child((chain[-1], E)), "me")
    engine.kill(first.id, by="me")
    assert engine.wait(cleanup.id, 20).state is State.COMPLETED
    ends = [engine.get(job.id) for job in chain[1:]]
    assert {end.state for end in ends} == {State.SKIPPED}
    assert ends[0].reason == f"skipped: job {first.id[:4]}… was killed before it started"
    assert ends[1].reason == f"skipped: job {chain[1].id[:4]}… was skipped"


def test_a_skipped_job_is_an_event(engine):
    """A follower would wait for a job that has long been skipped."""
    events = engine.events("other", 0)
    parent = engine.submit(JobSpec("sh", ["-c", "exit 2"], hold=True), "other")
    waiting = engine.submit(child((parent, S)), "other")
    engine.update(parent.id, hold=False)
    seen = {}
    while seen.get(waiting.id) is not State.SKIPPED:
        job = next(events)
        if job is not None:
            seen[job.id] = job.state
    events.close()


def test_what_others_wait_for_is_kept(engine):
    """A job would never start, because the one that it waits for was removed."""
    parent = engine.submit(JobSpec("true"), "me")
    engine.wait(parent.id, 20)
    held = engine.submit(child((parent, S), hold=True), "me")
    with pytest.raises(JobNeeded, match=f"job {held.id} waits for it"):
        engine.remove(parent.id)
    assert engine.remove_many([parent.id]) == 0
    engine.update(held.id, hold=False)
    engine.wait(held.id, 20)
    engine.remove(parent.id)


def test_only_own_jobs_are_waited_for(engine):
    """A user would learn when the jobs of another one end."""
    other = engine.submit(JobSpec("true"), "other")
    for job_id in (other.id, "unknown"):
        with pytest.raises(InvalidSpec, match=r"after\[0\].job: you have no job with id"):
            engine.submit(JobSpec("true", after=[After(job_id)]), "me")
    assert engine.counts()["queued"] == 0


def test_nothing_is_left_in_memory(engine):
    """Requests that name unknown jobs, or ended ones, would fill the server's memory."""
    ended = engine.submit(JobSpec("true"), "me")
    engine.wait(ended.id, 20)
    for each, when in ((ended, S), (ended, F), (ended, E)):
        engine.wait(engine.submit(child((each, when)), "me").id, 20)
    with pytest.raises(InvalidSpec):
        engine.submit(JobSpec("true", after=[After("unknown")]), "me")
    held = engine.submit(JobSpec("true", hold=True), "me")
    engine.kill(engine.submit(child((held, S)), "me").id)
    engine.kill(held.id)
    assert engine._jobs._children == {}


def test_all_dependencies_together_are_bounded(engine, monkeypatch):
    """One user could fill memory and disk with jobs that each wait for a thousand others."""
    monkeypatch.setattr(lifecycle, "_MOST_DEPENDENCIES", 3)
    parent = engine.submit(JobSpec("true"), "me")
    engine.wait(parent.id, 20)
    spec = child((parent, S), (parent, E), hold=True)
    held = engine.submit(spec, "me")
    with pytest.raises(QueueFull, match="the jobs that wait have 2 dependencies already"):
        engine.submit(spec, "me")
    assert engine.submit(child((parent, S)), "me")
    engine.kill(held.id)
    engine.kill(engine.submit(spec, "me").id)


def test_the_same_key_finds_the_same_job(engine):
    """A repeated request would be refused, because what the job waited for was removed since."""
    parent = engine.submit(JobSpec("true"), "me")
    spec = child((parent, E))
    first = engine.submit(spec, "me", idempotency_key="k")
    engine.wait(first.id, 20)
    engine.remove(parent.id)
    assert engine.submit(spec, "me", idempotency_key="k").id == first.id


def test_a_restart_changes_nothing(tmp_path):
    """Jobs would start too early, or never, because the server was restarted."""
    path = tmp_path / "state"
    with Engine(path) as engine:
        parent = engine.submit(JobSpec("sh", ["-c", "exit 2"], hold=True), "me")
        good, bad = (engine.submit(child((parent, when)), "me") for when in (F, S))
        wide = [After(parent.id, when) for when in When] + [After(good.id)] * 2
        long = engine.submit(JobSpec("echo", ["x" * 5000], after=wide), "me")
    with Engine(path) as engine:
        assert engine.get(good.id).state is engine.get(bad.id).state is State.QUEUED
        engine.update(parent.id, hold=False)
        assert engine.wait(good.id, 20).state is State.COMPLETED
        assert engine.wait(bad.id, 20).state is State.SKIPPED
        assert engine.wait(long.id, 20).state is State.SKIPPED
        assert len(engine.get(long.id).spec.after) == 5


def test_a_lost_database_changes_nothing(tmp_path):
    """Jobs would start before those that they wait for, after the database was lost."""
    path = tmp_path / "state"
    with Engine(path) as engine:
        parent = engine.submit(JobSpec("true", hold=True), "me")
        good, bad = (engine.submit(child((parent, when)), "me") for when in (S, F))
        gone = engine.submit(JobSpec("true"), "me")
        orphan = engine.submit(child((gone, S), (parent, E)), "me")
        engine.wait(gone.id, 20)
    for name in ("worker.db", "worker.db-wal", "worker.db-shm"):
        (path / name).unlink(missing_ok=True)
    for file in (path / "jobs" / gone.id).iterdir():
        file.unlink()
    (path / "jobs" / gone.id).rmdir()
    rebuild_records(path)
    with Engine(path) as engine:
        assert engine.get(orphan.id).reason == f"skipped: job {gone.id[:4]}… is no longer known"
        assert engine.get(good.id).reason.startswith("waiting for job")
        engine.update(parent.id, hold=False)
        assert engine.wait(good.id, 20).state is State.COMPLETED
        assert engine.wait(bad.id, 20).state is State.SKIPPED


PROGRAM = """
import sys
from worker_core import After, Engine, JobSpec, When

engine = Engine(sys.argv[1])
parent = engine.submit(JobSpec("true", hold=True, name="parent"), "me").id
for when in When:
    engine.submit(JobSpec("true", after=[After(parent, when)], name=when.value), "me")
last = engine.submit(JobSpec("true", after=[After(parent, When.FAILURE)]), "me").id
engine.update(parent, hold=False)
engine.wait(last, 20)
"""


@pytest.mark.parametrize("point", ["engine.exit_received", "engine.exit_committed"])
def test_the_engine_may_die_between_an_end_and_what_follows(tmp_path, point):
    """A job would wait for ever, or start although it must not, after a crash in that moment."""
    path = tmp_path / "state"
    environment = os.environ | {"WORKER_CRASH_AT": point}
    argv = [sys.executable, "-c", PROGRAM, path]
    assert subprocess.run(argv, env=environment, check=False).returncode == -signal.SIGKILL
    with Engine(path) as engine:
        ends = {job.spec.name: engine.wait(job.id, 20).state for job in engine.list().jobs}
    assert ends["failure"] is State.SKIPPED
    assert {ends[name] for name in ("parent", "success", "end", "start")} == {State.COMPLETED}
