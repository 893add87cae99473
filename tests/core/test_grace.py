"""After a kill or a timeout the whole tree has its grace, not only its leader."""

import os
import signal
import time

import pytest
from support.core import supervisor_pid
from support.waiting import wait_until
from worker_core import Engine, Isolation, JobSpec, State
from worker_core.supervisor import tree

SANDBOX = Isolation(pid_namespace=True)

# A program that needs a moment to clean up. If it is killed before, it does not print "cleaned".
CHILD = """
trap 'sleep 0.3; echo cleaned; exit 0' TERM
echo ready
while :; do sleep 0.05; done
"""
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture(scope="module", params=["groups", "marks"])
def engine(request, tmp_path_factory):
    """An engine whose supervisor finds the tree of a job by its group, or by marks."""
    state_dir = tmp_path_factory.mktemp("grace") / "state"
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "marks":
            patch.setenv("WORKER_CGROUPS", "off")
        opened = Engine(state_dir)
    with opened as engine:
        yield engine
        for job in engine.list(owner="me").jobs:
            if not job.state.final:
                engine.kill(job.id, by="me", grace=0, wait=20)
    pid = supervisor_pid(state_dir)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: supervisor_pid(state_dir) is None)


def begin(engine, tmp_path, child, **spec):
    """Start a shell that waits for a child, and ends at once by the signal."""
    (tmp_path / "child.sh").write_text(child)
    args = ["-c", f"bash {tmp_path}/child.sh; echo after"]
    job = engine.submit(JobSpec("sh", args, **spec), "me")
    wait_until(lambda: b"ready" in engine.read_output(job.id))
    return job


def left(job):
    """Return the processes of a job that are not exiting already."""
    return [each for each in tree.members(job.id) if not each.ended]


@pytest.mark.parametrize("isolation", [Isolation(), SANDBOX], ids=["open", "sandbox"])
def test_a_kill_leaves_the_tree_its_grace(engine, tmp_path, isolation):
    """The shell dies of the signal at once, and the program below it could not clean up."""
    job = begin(engine, tmp_path, CHILD, stop_grace=30.0, isolation=isolation)
    job = engine.kill(job.id, by="me", wait=20)
    assert (job.state, job.signal) == (State.KILLED, signal.SIGTERM)
    assert engine.read_output(job.id).endswith(b"\ncleaned\n")
    assert left(job) == []


def test_a_timeout_leaves_the_tree_its_grace(engine, tmp_path):
    """A job with a limit of time could not clean up below a shell."""
    job = begin(engine, tmp_path, CHILD, stop_grace=30.0, timeout=1.0)
    job = engine.wait(job.id, 20)
    assert (job.state, job.signal) == (State.TIMED_OUT, signal.SIGTERM)
    assert engine.read_output(job.id).endswith(b"\ncleaned\n")


@pytest.mark.parametrize("isolation", [Isolation(), SANDBOX], ids=["open", "sandbox"])
def test_what_outlives_the_grace_is_killed(engine, tmp_path, isolation):
    """A program below a shell that ignores the signal would run for ever."""
    job = begin(engine, tmp_path, DEAF, stop_grace=0.5, isolation=isolation)
    began = time.monotonic()
    job = engine.kill(job.id, by="me", wait=20)
    assert time.monotonic() - began >= 0.5
    assert (job.state, job.signal) == (State.KILLED, signal.SIGTERM)
    assert left(job) == []


@pytest.mark.parametrize("again", [{"signal": "KILL"}, {"grace": 0.1}])
def test_a_second_kill_hastens_what_is_left(engine, tmp_path, again):
    """A user in a hurry would have to wait for a grace that was meant for the leader."""
    job = begin(engine, tmp_path, DEAF, stop_grace=1000.0)
    engine.kill(job.id, by="me", wait=0)
    wait_until(lambda: not _leader_lives(job))
    assert left(job)
    job = engine.kill(job.id, by="me", wait=20, **again)
    assert job.state is State.KILLED
    assert left(job) == []


def _leader_lives(job):
    return any(each.session == each.pid for each in left(job))


def test_leftovers_of_a_job_that_ended_by_itself_have_no_grace(engine, tmp_path):
    """A job would go on after its end, with whatever it has left behind."""
    (tmp_path / "child.sh").write_text(DEAF)
    script = f"bash {tmp_path}/child.sh & sleep 0.2; exit 3"
    job = engine.submit(JobSpec("sh", ["-c", script], stop_grace=1000.0), "me")
    job = engine.wait(job.id, 20)
    assert job.exit_code == 3
    assert left(job) == []


def test_a_closed_engine_waits_for_no_grace(tmp_path):
    """A program would hang at its end until the jobs that it has killed have cleaned up."""
    with Engine() as engine:
        job = begin(engine, tmp_path, DEAF, stop_grace=1000.0)
        engine.kill(job.id, by="me", wait=0)
        wait_until(lambda: not _leader_lives(job))
    assert left(job) == []


def test_an_upgrade_waits_for_a_tree_that_has_its_grace(engine, tmp_path):
    """A program that cleans up would be killed when the supervisor executes itself."""
    job = begin(engine, tmp_path, CHILD, stop_grace=30.0)
    engine.kill(job.id, by="me", wait=0)
    engine._executor._send({"op": "upgrade"})
    job = engine.wait(job.id, 20)
    assert (job.state, job.signal) == (State.KILLED, signal.SIGTERM)
    assert engine.read_output(job.id).endswith(b"\ncleaned\n")
