"""Whether a job was killed: what is recorded before and after the signal, and what was observed."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from worker_core.clock import SystemClock
from worker_core.disk.jobdir import JobDir, Kill, Pid
from worker_core.linux import procfs
from worker_core.supervisor import killer
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.outcome import outcome
from worker_core.supervisor.running_job import EndRequest, RunningJob

JOB = "00000000-0000-4000-8000-000000000000"
HANDLES = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(sys.stdin.readline() and 7))
print("ready", flush=True)
signal.pause()
"""
DOES_NOT = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def kills():
    loop = Loop(SystemClock())
    yield killer.Killer(loop, None)
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


@pytest.fixture
def begin(tmp_path):
    """Return what starts a leader, and ends it."""
    started = []

    def begin(code):
        argv = [sys.executable, "-c", code]
        child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(child)
        assert child.stdout.readline() == b"ready\n"
        (tmp_path / "jobs" / JOB).mkdir(parents=True)
        begin.go_on = lambda: child.stdin.write(b"\n") and child.stdin.flush()
        pid = Pid(child.pid, procfs.stat(child.pid).start_time, "boot", 0.0)
        return RunningJob(JobDir(str(tmp_path), JOB), {"stop_grace": 10.0}, pid=pid)

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def end(process):
    _, status = os.waitpid(process.pid.pid, 0)
    return outcome(status, process.kill, None)


def test_a_handler_that_is_installed_a_moment_later_counts(kills, begin, monkeypatch):
    """A program that was killed while it started would be reported as failed."""
    process = begin(HANDLES)
    asked, real = [], procfs.survives

    def survives(pid, signum):
        asked.append(pid)
        return len(asked) > 1 and real(pid, signum)

    monkeypatch.setattr(procfs, "survives", survives)
    kills.kill(process, EndRequest("kill", None, 15, 10.0))
    assert len(asked) == 2
    assert process.kill.counts
    assert process.dir.kill() == process.kill
    begin.go_on()
    ended = end(process)
    assert (ended.cause, ended.exit_code) == ("kill", 7)


def test_a_program_without_a_handler_ends_by_the_signal(kills, begin):
    """A program that ends by itself at that moment would be reported as killed."""
    process = begin(DOES_NOT)
    kills.kill(process, EndRequest("kill", None, 15, 10.0))
    assert not process.kill.counts
    ended = end(process)
    assert (ended.cause, ended.exit_code, ended.signal) == ("kill", None, 15)


def test_a_program_that_has_ended_is_not_killed(kills, begin):
    """A kill that comes too late would be recorded as the cause of the end."""
    process = begin("print('ready')")
    os.waitid(os.P_PID, process.pid.pid, os.WEXITED | os.WNOWAIT)
    kills.kill(process, EndRequest("kill", None, 15, 10.0))
    assert process.kill is None
    assert end(process).cause == "own"


@pytest.mark.parametrize("last", ["os.kill(0, 9)", "os.abort()", "sys.exit(0)"])
@pytest.mark.parametrize("cause", ["kill", "timeout"])
def test_a_handler_may_end_its_program_in_any_way(kills, begin, last, cause):
    """A job could have its kill or its timeout reported as a failure."""
    process = begin(
        "import os, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: {last})\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(600)\n"
    )
    kills.kill(process, EndRequest(cause, "why", 15, 10.0))
    ended = end(process)
    assert (ended.cause, ended.reason) == (cause, "why")
    assert (ended.exit_code, ended.signal) in [(None, 9), (None, 6), (0, None)]


def test_a_signal_that_is_not_ours_is_not_a_kill(kills, begin):
    """A crash at the moment of a kill would be reported as a kill."""
    process = begin(DOES_NOT)
    os.kill(process.pid.pid, 9)
    os.waitid(os.P_PID, process.pid.pid, os.WEXITED | os.WNOWAIT)
    process.kill = Kill("kill", None, [15], counts=False, kill_at=0.0)
    assert end(process).cause == "own"


ENDS_BY_ITSELF = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("ready", flush=True)
sys.stdin.readline()
sys.exit(3)
"""


def test_a_program_that_ends_while_the_kill_is_recorded_ended_by_itself(kills, begin, monkeypatch):
    """A program that could have survived the signal would be reported as killed."""
    process = begin(ENDS_BY_ITSELF)
    real = JobDir.write_kill

    def slowly(directory, wanted):
        real(directory, wanted)
        begin.go_on()
        os.waitid(os.P_PID, process.pid.pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(JobDir, "write_kill", slowly)
    kills.kill(process, EndRequest("kill", None, 15, 10.0))
    ended = end(process)
    assert (ended.cause, ended.exit_code) == ("own", 3)


def test_a_program_that_is_exiting_when_the_signal_comes_ended_by_itself(kills, begin, monkeypatch):
    """A large program takes a moment to exit, and a signal in that moment has no effect."""
    process = begin(HANDLES)
    write, stat = JobDir.write_kill, procfs.stat

    def exiting_from_now_on(directory, wanted):
        write(directory, wanted)
        monkeypatch.setattr(procfs, "stat", lambda pid: replace(stat(pid), exiting=True))

    monkeypatch.setattr(JobDir, "write_kill", exiting_from_now_on)
    kills.kill(process, EndRequest("kill", None, 15, 10.0))
    assert process.kill is None


def test_a_program_that_may_not_be_signalled_is_killed_by_its_group(kills, begin, monkeypatch):
    """A job that runs sudo would go on for ever, because it may not be signalled."""
    process = begin(HANDLES)

    def refuse(_pidfd, _signum):
        raise PermissionError

    monkeypatch.setattr("worker_core.supervisor.tree.signal.pidfd_send_signal", refuse)
    kills.kill(process, EndRequest("kill", None, 15, 10.0))
    assert process.kill.signalled == [15]
    assert process.kill_timer is not None
