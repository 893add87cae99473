"""One suite for all executors: the local one and the fake."""

from importlib import metadata

import pytest
from worker_core import Engine, JobNotRunning, JobSpec, State, executor
from worker_core.executors.local import LocalExecutor
from worker_core.testing.fakes import FakeClock, FakeExecutor


@pytest.fixture(params=["local", "fake"])
def engine(request, tmp_path):
    if request.param == "local":
        with Engine(executor=None) as engine:
            yield engine
    else:
        with Engine(tmp_path, executor=FakeExecutor()) as engine:
            yield engine


def run(engine, *argv):
    return engine.wait(engine.submit(JobSpec(argv[0], argv[1:]), "me").id, 20)


def test_both_are_executors():
    """A method that one of them lacks would be missed only in production."""

    def methods(kind):
        return {name for name, value in vars(kind).items() if name[0] != "_" and callable(value)}

    assert methods(FakeExecutor) - {"finish"} == methods(LocalExecutor)


@pytest.mark.parametrize(
    ("argv", "state", "exit_code"),
    [(["true"], State.COMPLETED, 0), (["false"], State.FAILED, 1), (["echi"], State.FAILED, 127)],
)
def test_a_job_ends_as_its_command_does(engine, argv, state, exit_code):
    """An executor would report another end than the job's."""
    job = run(engine, *argv)
    assert (job.state, job.exit_code, job.signal) == (state, exit_code, None)


def test_what_cannot_start_says_why_and_never_started(engine):
    """A job that never ran would look like one that failed."""
    job = run(engine, "echi")
    assert (job.reason, job.started_at) == ("echi: command not found", None)


def test_a_kill_ends_a_job_by_the_signal(engine):
    """A kill would do nothing, or the record would have another signal."""
    job = engine.submit(JobSpec("sleep", ["600"]), "me")
    job = engine.kill(job.id, by="alice")
    assert (job.state, job.killed_by) == (State.KILLED, "alice")
    job = engine.submit(JobSpec("sleep", ["600"]), "me")
    assert engine.kill(job.id, by="alice", now=True).state is State.KILLED
    with pytest.raises(JobNotRunning):
        engine.kill(job.id)


def test_starting_twice_starts_once(engine):
    """After a lost answer a job would run again."""
    job = run(engine, "true")
    engine._executor.start(job.id, job.spec.to_dict() | {"run_as": None})
    assert run(engine, "true").state is State.COMPLETED
    assert engine.get(job.id) == job


def test_a_query_is_answered_in_order(engine):
    """Recovery would act on an outdated answer."""
    job = run(engine, "false")
    engine._jobs.recovered.clear()
    engine._executor.query([job.id, "00000000-0000-4000-8000-000000000000"])
    assert engine._jobs.recovered.wait(10)
    assert engine.get(job.id) == job


def test_a_clock_that_stands_still():
    """Tests with a clock of their own would depend on the time of the day."""
    clock = FakeClock(5.0)
    clock.advance(2)
    assert (clock.now(), clock.monotonic()) == (7.0, 7.0)


def test_executors_are_found_by_name(monkeypatch):
    """Another distribution could not offer its executor, or a wrong name would be a traceback."""
    offered = metadata.EntryPoint(
        "pretending", "worker_core.testing.fakes:FakeExecutor", "worker_core.executors"
    )
    monkeypatch.setattr(metadata, "entry_points", lambda group: metadata.EntryPoints([offered]))
    assert executor.find("pretending") is FakeExecutor
    with pytest.raises(LookupError, match="no executor named 'slurm'; installed are: pretending"):
        executor.find("slurm")
