"""What the owner of a job lets it wait for: priority, hold and time, also across restarts."""

import threading
from dataclasses import replace

import pytest
from support.waiting import wait_until
from worker_core import Engine, EngineSettings, InvalidSpec, JobNotWaiting, JobSpec, State
from worker_core.clock import SystemClock

FOREVER = JobSpec("sleep", ["1000"])


class SetClock(SystemClock):
    """A clock whose time of day a test sets."""

    ahead = 0.0

    def now(self):
        return super().now() + self.ahead


def open_engine(path, **more):
    return Engine(path, settings=EngineSettings(max_running=1), **more)


@pytest.fixture
def engine(tmp_path):
    with open_engine(tmp_path / "state") as engine:
        yield engine
        for job in engine.list(states=[State.QUEUED, State.RUNNING]).jobs:
            engine.kill(job.id, now=True)


def starts(engine, job_id):
    """Wait until a job has started."""
    wait_until(lambda: engine.get(job_id).state is State.RUNNING)


def test_the_highest_priority_is_first_also_after_a_restart(tmp_path):
    """An urgent job would wait behind the others, at least once the server was restarted."""
    with open_engine(tmp_path / "state") as engine:
        first = engine.submit(FOREVER, "me").id
        low, usual, high = (
            engine.submit(JobSpec("true", priority=each), "me").id for each in (-1, 0, 7)
        )
        raised = engine.update(low, priority=100)
        assert (raised.let_wait.priority, raised.spec.priority) == (100, -1)
    with open_engine(tmp_path / "state") as engine:
        assert engine.get(high).reason.endswith("; 1 of me's jobs is ahead of it")
        assert engine.get(usual).reason.endswith("; 2 of me's jobs are ahead of it")
        assert engine.get(low).reason == "waiting for a free slot: 1 of 1 running"
        assert engine.get(low).record_view()["priority"] == 100
        engine.kill(first, now=True)
        ends = {each: engine.wait(each, 20).ended_at for each in (low, high, usual)}
        assert sorted(ends, key=ends.get) == [low, high, usual]


def test_a_held_job_starts_when_it_is_released(tmp_path):
    """`--hold` would do nothing, or be forgotten in a restart."""
    with open_engine(tmp_path / "state") as engine:
        held = engine.submit(JobSpec("true", hold=True), "me")
        assert (held.state, held.reason) == (State.QUEUED, "held until it is released")
        other = engine.submit(JobSpec("true"), "me").id
        assert engine.wait(other, 20).state is State.COMPLETED
    with open_engine(tmp_path / "state") as engine:
        assert [each.text for each in engine.get(held.id).waiting] == ["held until it is released"]
        engine.update(held.id, hold=False)
        assert engine.wait(held.id, 20).state is State.COMPLETED


def test_a_job_that_is_held_in_time_does_not_start(engine):
    """A job would start although its owner holds it."""
    first = engine.submit(FOREVER, "me").id
    held, other = (engine.submit(FOREVER, "me").id for _ in range(2))
    engine.update(held, hold=True)
    engine.kill(first, now=True)
    starts(engine, other)
    texts = [each.text for each in engine.get(held).waiting]
    assert texts == ["held until it is released", "waiting for a free slot: 1 of 1 running"]
    view = engine.get(held).status_view()["waiting"]
    assert [each["gate"] for each in view] == ["hold", "slots"]


def test_a_job_starts_when_its_time_has_come(tmp_path):
    """`--at 22:00` would start at once, or never."""
    clock = SetClock()
    at = clock.now() + 3600
    with open_engine(tmp_path / "state", clock=clock) as engine:
        later = engine.submit(JobSpec("true", start_after=at), "me")
        text = later.record_view()["start_after"]
        assert later.reason == f"waiting until {text}"
        assert later.status_view()["waiting"][0]["until"] == text
        assert engine.submit(FOREVER, "me").state is State.RUNNING
        clock.ahead = 3601
        sooner = engine.submit(JobSpec("true", start_after=at + 10), "me")
        assert sooner.reason.startswith("waiting until")
    with open_engine(tmp_path / "state", clock=clock) as engine:
        assert engine.get(later.id).reason == "waiting for a free slot: 1 of 1 running"
        for job in engine.list(states=[State.RUNNING]).jobs:
            engine.kill(job.id, now=True)
        assert engine.wait(later.id, 20).state is State.COMPLETED
        engine.update(sooner.id, start_after=clock.now() + 0.05)
        assert engine.wait(sooner.id, 30).state is State.COMPLETED


def test_a_time_can_be_taken_back(engine):
    """A job that was put off for a week could only be killed."""
    job = engine.submit(JobSpec("true", start_after=4e9), "me").id
    engine.update(job, priority=1)
    assert engine.get(job).reason.startswith("waiting until 2096-")
    engine.update(job, start_after=None)
    assert engine.wait(job, 20).state is State.COMPLETED
    assert not [each for each in threading.enumerate() if each.name == "worker-alarm"][1:]


def test_only_a_waiting_job_is_changed(engine):
    """A user would be told that a job is held which runs on."""
    job = engine.submit(FOREVER, "me").id
    with pytest.raises(JobNotWaiting, match="is running; only a job that waits can be changed"):
        engine.update(job, hold=True)
    engine.kill(job, by="me", now=True)
    with pytest.raises(JobNotWaiting, match="has already been killed by me; only a job"):
        engine.update(job, priority=1)


def test_what_is_wrong_is_named(engine):
    """A typing error would be accepted, and the job wait where nobody expects it."""
    job = engine.submit(JobSpec("true", hold=True), "me").id
    with pytest.raises(InvalidSpec, match="priority: must be from -100 to 100"):
        engine.update(job, priority=101)
    with pytest.raises(InvalidSpec, match="start_after: must be a time"):
        engine.update(job, start_after=-1)
    with pytest.raises(InvalidSpec, match="hold: must be true or false"):
        JobSpec("true", hold="yes")
    with pytest.raises(InvalidSpec, match=r"start_after: '22:00' is not a time in RFC 3339"):
        JobSpec.from_dict({"command": "true", "start_after": "22:00"})


def test_the_spec_is_stored_as_it_was_given():
    """A time would be another one after a restart."""
    shown = {"command": "true", "start_after": "2026-12-01T08:00:00+01:00", "hold": True}
    spec = JobSpec.from_dict(shown | {"priority": -5})
    assert spec.start_after == 1796108400.0
    assert spec.to_dict()["start_after"] == "2026-12-01T07:00:00.000Z"
    assert JobSpec.from_stored(spec.to_dict()) == spec


def test_an_owner_with_twice_the_share_gets_twice_the_slots(tmp_path):
    """Shares in the settings would mean nothing."""
    settings = EngineSettings(max_running=3, shares={"a": 2.0})
    with Engine(tmp_path / "state", settings=settings) as engine:
        first = [engine.submit(FOREVER, "c").id for _ in range(3)]
        for _ in range(3):
            for owner in "ba":
                engine.submit(FOREVER, owner)
        for job_id in first:
            engine.kill(job_id, now=True)
        wait_until(lambda: len(engine.list(states=[State.RUNNING]).jobs) == 3)
        owners = sorted(job.owner for job in engine.list(states=[State.RUNNING]).jobs)
        assert owners == ["a", "a", "b"]
        for job in engine.list(states=[State.QUEUED, State.RUNNING]).jobs:
            engine.kill(job.id, now=True)


def test_jobs_with_a_lock_run_one_at_a_time(tmp_path):
    """Two backups of one database would run at once, at least after a restart."""
    with Engine(tmp_path / "state") as engine:
        first, second = (engine.submit(replace(FOREVER, lock="db"), "me").id for _ in range(2))
        other = engine.submit(replace(FOREVER, lock="db"), "you").id
        starts(engine, other)
        assert engine.get(second).reason == "waiting for the lock 'db', which another job has"
    with Engine(tmp_path / "state") as engine:
        assert engine.get(second).reason == "waiting for the lock 'db', which another job has"
        engine.kill(first, now=True)
        starts(engine, second)
        for job_id in (second, other):
            engine.kill(job_id, now=True)
