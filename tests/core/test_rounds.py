"""What does not end at once, by SIGKILL, is looked at again and again: in one row of looks."""

import os
import uuid
from dataclasses import replace

import pytest
from worker_core.disk.jobdir import JobDir, Pid
from worker_core.linux import procfs
from worker_core.supervisor import tree
from worker_core.supervisor.exit_status import Ending
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.killer import Killer
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.outcome import lost
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.running_job import EndRequest, RunningJob
from worker_core.testing.fakes import FakeClock

JOB = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def loop():
    loop = Loop(FakeClock())
    yield loop
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


@pytest.fixture(autouse=True)
def deathless(monkeypatch):
    """Let jobs have one process, on a dead network disk, that no signal ends."""
    stat = replace(procfs.stat(os.getpid()), state="D")
    monkeypatch.setattr(tree, "members", lambda *_: [stat])
    monkeypatch.setattr(tree, "send_all", lambda *_: None)


@pytest.fixture
def process(tmp_path):
    (tmp_path / "jobs" / JOB).mkdir(parents=True)
    spec = {"stop_signal": "SIGTERM", "stop_grace": 10.0}
    return RunningJob(JobDir(str(tmp_path), JOB), spec, pid=Pid(os.getpid(), 0, "boot", 0.0))


def due(loop):
    """Return how many calls are due at some time."""
    return sum(timer.call is not None for timer in loop._timers)


def test_a_kill_that_is_asked_for_again_and_again_goes_round_once(loop, process):
    """An impatient user could keep the supervisor busy with a job that cannot end."""
    kills = Killer(loop, None)
    for _ in range(5):
        kills.kill(process, EndRequest("kill", None, 9, 10.0))
    assert due(loop) == 1


@pytest.fixture
def processes(loop, tmp_path):
    made = JobTable(
        RunDir(str(tmp_path)), loop, None, emit=print, watched=bool, on_empty=print, root_jobs=False
    )
    yield made
    made.launchers.close()


def test_a_pid_that_a_job_of_ours_has_got_stays_with_it(processes, process):
    """Its end would be nobody's, and it would run for ever."""
    process.pidfd = os.pidfd_open(os.getpid())
    processes.adopt(process)
    ours = replace(process)
    processes._leaders[os.getpid()] = ours
    processes._foreign_leader_ended(process, Ending(0, "", 0.0, 0.0, seen=True))
    assert processes._leaders == {os.getpid(): ours}


@pytest.mark.parametrize("late", ["first", "unknown"])
def test_the_end_of_a_leader_is_not_that_of_the_next_one_with_its_pid(
    tmp_path, processes, process, late
):
    """A running job would be shown as ended, with the exit code of another one."""
    first, second = process, replace(process, dir=JobDir(str(tmp_path), str(uuid.uuid4())))
    processes.adopt(first)
    processes.adopt(second)  # of which another launcher has told sooner
    job_id = first.id if late == "first" else str(uuid.uuid4())
    processes._starts._hear(("ended", job_id, os.getpid(), 7 << 8, (0.0, 0.0, None)))
    assert second.end is None
    assert processes._leaders == {os.getpid(): second}
    assert (first.end is not None and first.end.exit_code == 7) == (late == "first")


def test_what_is_left_behind_is_looked_at_once_a_round(loop, process, processes):
    """Each job that ends meanwhile would add another look, until nothing else is done."""
    processes.take_lost(process, lost("gone", 0.0))
    for _ in range(5):
        processes._sweeper.sweep(process)
    assert due(loop) == 1
    loop.clock.advance(0.05)
    loop._run_timers()
    assert due(loop) == 1
    loop.clock.advance(11)
    loop._run_timers()  # ten seconds were enough
    assert due(loop) == 0
    assert process.dir.exit().cause == "lost"
