"""When the supervisor can do nothing for a while: it goes on later, and nothing is forgotten."""

import os
import resource
import signal
import socket
from contextlib import contextmanager

from support.core import Sleepers, begin, marked, shell, supervisor_pid, wait_gone, waiting_for
from support.kernel import reports_exit_status
from support.waiting import wait_until
from worker_core import Engine, JobSpec, State
from worker_core.disk import jobdir
from worker_core.executors import local
from worker_core.linux import procfs


@contextmanager
def no_descriptor_left(pid):
    """Let a process open nothing in this block."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    lowest_free = min(set(range(max(taken) + 2)) - taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def test_what_is_asked_for_and_due_meanwhile_is_done_afterwards(tmp_path):
    """A kill or a timeout that meets a shortage would be forgotten, and the job run for ever."""
    log, go, sleepers = tmp_path / "supervisor.log", tmp_path / "go", Sleepers()
    with Engine(tmp_path) as engine:
        killed = begin(engine, shell("echo ready; sleep 600"))
        stubborn = begin(engine, shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"))
        late = begin(engine, shell("echo ready; sleep 600", timeout=2))
        ends = begin(engine, shell(f"{waiting_for(go)}; (setsid {sleepers} &); exit 3"))
        with no_descriptor_left(supervisor_pid(engine.state_dir)):
            engine.kill(killed.id, by="me", wait=0)
            engine.kill(stubborn.id, by="me", grace=0.1, wait=0)
            new = engine.submit(JobSpec("true"), "me")
            go.touch()
            wait_until(lambda: log.read_text().count("trying again") >= 20)
        jobs = [engine.wait(job.id, 20) for job in (killed, stubborn, late, ends, new)]
        assert [job.state for job in jobs] == [
            State.KILLED,
            State.KILLED,
            State.TIMED_OUT,
            State.FAILED,
            State.COMPLETED,
        ]
        assert jobs[3].exit_code == 3
        assert [marked(job.id) for job in jobs] == [[]] * 5
        assert sleepers.count() == 0


def test_an_engine_that_comes_meanwhile_waits_its_turn(tmp_path):
    """The supervisor would turn in circles and fill the disk with its log."""
    with Engine(tmp_path) as engine:
        pid = supervisor_pid(engine.state_dir)
        with no_descriptor_left(pid), socket.socket(socket.AF_UNIX) as peer:
            before = procfs.stat(pid)
            peer.connect(str(tmp_path / jobdir.SOCKET))
            log = tmp_path / jobdir.LOG
            wait_until(lambda: log.read_text().count("cannot accept a connection") >= 3)
            after = procfs.stat(pid)
            assert after.user_ticks - before.user_ticks <= 10
            assert log.stat().st_size < 10_000


def test_more_jobs_than_descriptors_can_be_taken_over(tmp_path, monkeypatch):
    """After the death of a supervisor with many jobs the next one could end none of them."""
    sleepers = Sleepers()
    with Engine(tmp_path) as engine:
        jobs = [engine.submit(shell(f"exec {sleepers}"), "me") for _ in range(30)]
        sleepers.wait(30)
        wait_until(lambda: all(engine.get(job.id).started_at for job in jobs))
        pid = supervisor_pid(engine.state_dir)
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    monkeypatch.setattr(local.resource, "getrlimit", lambda _: (24, 24))
    with Engine(tmp_path) as engine:
        for job in jobs:
            engine.kill(job.id, now=True, wait=0)
        known = State.KILLED if reports_exit_status() else State.LOST
        assert all(engine.wait(job.id, 20).state is known for job in jobs)
    assert sleepers.count() == 0


def test_a_supervisor_that_hangs_is_told_from_one_that_answers(tmp_path, monkeypatch):
    """Jobs would be sent to a server on which none can start."""
    monkeypatch.setattr(local, "_ANSWER_SECONDS", 0.2)
    with Engine(tmp_path) as engine:
        pid = supervisor_pid(engine.state_dir)
        assert engine.health()["supervisor"] == "ok"
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                assert engine.health()["supervisor"] == "it has not answered for 0.2 seconds"
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: engine.health()["supervisor"] == "ok")
        os.kill(pid, signal.SIGSTOP)
        engine.health()
        os.kill(pid, signal.SIGKILL)  # another one answers for it
        wait_until(lambda: supervisor_pid(engine.state_dir) != pid)
        wait_until(lambda: engine.health()["supervisor"] == "ok")


def test_a_supervisor_that_hangs_takes_nobody_along(tmp_path, monkeypatch):
    """While it waits for a dead disk, every request to the daemon would wait too, for ever."""
    monkeypatch.setattr(local, "_SEND_SECONDS", 0.3)
    with Engine(tmp_path) as engine:
        monkeypatch.setattr(local, "_START_SECONDS", 1.0)
        pid = supervisor_pid(engine.state_dir)
        os.kill(pid, signal.SIGSTOP)
        try:
            spec = JobSpec("true", ["x" * 100_000])
            jobs = [engine.submit(spec, "me") for _ in range(8)]
            wait_until(lambda: engine.health()["supervisor"] != "ok")
            assert engine.get(jobs[0].id).state is State.RUNNING
        finally:
            os.kill(pid, signal.SIGCONT)
        assert [engine.wait(job.id, 20).state for job in jobs] == [State.COMPLETED] * 8
        assert engine.health()["supervisor"] == "ok"
