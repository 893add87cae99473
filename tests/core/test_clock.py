"""Durations, ages and timeouts stay right when the system clock is set."""

import signal
from types import SimpleNamespace

import pytest
from support.core import begin, run, shell, waiting_for
from worker_core import Engine, EngineSettings
from worker_core.clock import SystemClock, Timeline
from worker_core.disk.jobdir import Kill
from worker_core.supervisor.killer import Killer
from worker_core.testing.fakes import FakeClock

HOUR, DAY = 3600.0, 86400.0


class Settable(SystemClock):
    """The clock of the machine plus an offset, as if it had been set."""

    def __init__(self):
        self.set = 0.0

    def now(self):
        return super().now() + self.set


@pytest.fixture
def clock():
    return Settable()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_how_long_a_job_runs_is_measured(tmp_path, clock, step):
    """A list would show 2h00m for a job of a minute, or 0.00s."""
    with Engine(tmp_path, clock=clock) as engine:
        job = begin(engine, shell(waiting_for(tmp_path / "go")))
        clock.set += step
        first = engine.list().jobs[0].duration
        assert 0 <= first < HOUR / 2
        running = engine.get(job.id)
        assert 0 <= running.duration < HOUR / 2
        assert 0 <= running.usage.wall_seconds < HOUR / 2
        assert running.status_view()["duration"] == running.usage.wall_seconds
    with Engine(tmp_path, clock=clock) as engine:  # asks the supervisor, which has measured it
        assert 0 <= engine.list().jobs[0].duration < HOUR / 2
        (tmp_path / "go").touch()
        view = engine.wait(job.id, 30).status_view()
        assert view["duration"] == view["usage"]["wall_seconds"] < HOUR / 2


def test_what_has_not_run_has_no_duration(tmp_path):
    """A job that waits would seem to run."""
    settings = EngineSettings(max_running=1)
    with Engine(settings=settings) as engine:
        begin(engine, shell("echo ready; sleep 600"))
        engine.submit(shell("true"), "me")
        waits, runs = engine.list().jobs
        assert (waits.duration, runs.duration is None) == (None, False)
        assert waits.status_view()["duration"] is None


def test_a_clock_that_is_set_forward_makes_no_job_old(tmp_path, clock):
    """All that ended before would be removed at once, also by the next workerd."""
    settings = EngineSettings(keep_age=HOUR)
    with Engine(tmp_path, clock=clock, settings=settings) as engine:
        job = run(engine, shell("true"))
        clock.set += DAY
        engine._maintenance.run()
        assert engine.get(job.id)
        assert engine.list(ended_before=engine.ago(HOUR)).jobs == ()
        assert engine.list(since=engine.ago(HOUR)).jobs == (engine.get(job.id),)
    with Engine(tmp_path, clock=clock, settings=settings) as engine:
        engine._maintenance.run()
        assert engine.list(ended_before=engine.ago(0)).jobs == (engine.get(job.id),)
        clock.monotonic = lambda: SystemClock().monotonic() + 2 * HOUR
        clock.set += 2 * HOUR
        engine._maintenance.run()
        assert engine.list().jobs == ()


def test_ages_across_steps():
    """What is younger than an hour would be taken for older."""
    clock = FakeClock(1000.0)
    known = []
    timeline = Timeline(clock, remember=known.append)
    first = clock.now()
    clock.advance(100)
    clock.set(DAY)
    assert timeline.ago(100) == first
    clock.advance(100)
    second = clock.now()
    clock.set(-2 * DAY)
    assert timeline.ago(0) == clock.now()
    # Of what is a hundred seconds old now, some bears the time after the first step, some that
    # after the second: the earlier counts.
    assert timeline.ago(100) == second - 100 - 2 * DAY
    assert timeline.ago(300) < timeline.ago(100)
    clock.advance(HOUR)
    assert timeline.ago(10) == clock.now() - 10
    assert Timeline(clock, known[-1]).ago(HOUR + 50) == timeline.ago(HOUR + 50)


def test_a_clock_that_drifts_is_not_set():
    """Each correction by a time server would be remembered."""
    clock = FakeClock()
    known = []
    timeline = Timeline(clock, remember=known.append)
    for _ in range(1000):
        clock.advance(60)
        clock.set(0.02)
        timeline.look()
    assert len(known[-1]) <= 21


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_new_supervisor_keeps_the_grace(step):
    """SIGKILL would come at once, or an hour late, if the clock was set since the kill."""
    clock = FakeClock()
    kill = Kill("kill", None, [signal.SIGTERM], True, clock.now() + 10, clock.monotonic() + 10)
    due = []
    loop = SimpleNamespace(clock=clock, call_at=lambda at, _: due.append(at))
    clock.advance(4)
    clock.set(step)
    Killer(loop, None).resume(SimpleNamespace(kill=kill, kill_timer=None, spec={}))
    assert due == [clock.monotonic() + 6]
