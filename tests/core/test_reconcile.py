"""The store against the executor: every finding of reconcile.py."""

import sqlite3

import pytest
from worker_core import Engine, JobSpec
from worker_core.engine import engine
from worker_core.model.state import State
from worker_core.reconcile import Finding, compare
from worker_core.testing.fakes import FakeExecutor

RUNNING, ENDED, NEVER = {"running": {"pid": 1}}, {"exit": {}}, {}


@pytest.mark.parametrize(
    ("state", "known", "same_boot", "finding"),
    [
        (State.RUNNING, RUNNING, True, Finding.FOLLOW),
        (State.STOPPING, RUNNING, True, Finding.KILL_AGAIN),
        (State.STOPPING, RUNNING | {"stopping": False}, True, Finding.KILL_AGAIN),
        (State.STOPPING, RUNNING | {"stopping": True}, True, Finding.FOLLOW),
        (State.RUNNING, ENDED, True, Finding.ENDED),
        (State.STOPPING, ENDED, True, Finding.ENDED),
        (State.RUNNING, ENDED, False, Finding.ENDED),
        (State.RUNNING, NEVER, True, Finding.START),
        (State.STOPPING, NEVER, True, Finding.CANCEL),
        (State.RUNNING, NEVER, False, Finding.LOSE),
        (State.STOPPING, NEVER, False, Finding.LOSE),
    ],
)
def test_the_finding(state, known, same_boot, finding):
    """After a restart a job would run twice, be forgotten, or get an invented end."""
    assert compare(state, known, same_boot=same_boot) is finding


@pytest.mark.parametrize(
    ("signalled", "kill_in", "finding"),
    [
        ([2], 500, Finding.KILL_AGAIN),  # an earlier kill with another signal
        ([15], 500, Finding.KILL_AGAIN),  # an earlier kill with more grace
        ([2, 15], 7, Finding.FOLLOW),
        ([2, 9], 0, Finding.FOLLOW),  # no signal is harder
    ],
)
def test_a_kill_that_the_executor_has_not_got_is_sent_again(signalled, kill_in, finding):
    """A `kill --now` that a dying supervisor had not read would be forgotten."""
    known = RUNNING | {"stopping": True, "signalled": signalled, "kill_in": kill_in}
    assert compare(State.STOPPING, known, same_boot=True, signum=15, grace=10.0) is finding
    assert compare(State.RUNNING, known, same_boot=True) is Finding.FOLLOW


class SilentExecutor(FakeExecutor):
    """One that has not said yet what became of jobs."""

    def query(self, job_ids):
        pass


def test_an_engine_that_dies_before_it_has_recovered_repeats_no_start(tmp_path, monkeypatch):
    """After a power failure and a crash in the first second a job would run a second time."""
    monkeypatch.setattr(engine, "_RECOVERY_SECONDS", 0.1)
    with Engine(tmp_path, executor=FakeExecutor()) as first:
        job = first.submit(JobSpec("sleep"), "me")
    with sqlite3.connect(tmp_path / "worker.db") as db:
        db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")
    db.close()
    with Engine(tmp_path, executor=SilentExecutor()):
        pass
    with Engine(tmp_path, executor=FakeExecutor()) as last:  # which knows nothing of the job
        assert last.wait(job.id, 10).state is State.LOST
    with Engine(tmp_path, executor=FakeExecutor()) as later:
        job = later.submit(JobSpec("sleep"), "me")
    with Engine(tmp_path, executor=FakeExecutor()) as same_boot:
        assert same_boot.get(job.id).state is State.RUNNING  # started again
