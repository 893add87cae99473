"""A start that hangs, on a dead file system or a stopped process, delays no other job."""

import os
import shutil
import signal
import subprocess

import pytest
from support.core import begin, launcher_pids, marked, run, shell, supervisor_pid
from support.kernel import reports_exit_status
from support.waiting import wait_until
from worker_core import Engine, JobSpec, Limits, State
from worker_core.linux import procfs
from worker_core.supervisor import start_limit


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path / "state") as engine:
        yield engine


class DeadDisk:
    """A directory on a file system whose server can be stopped, so that it does not answer."""

    def __init__(self, folder):
        self.source, self.path = folder / "source", folder / "disk"
        self.source.mkdir()
        self.path.mkdir()
        (self.source / "dir").mkdir()
        (self.source / "input").write_text("input\n")
        shutil.copy("/bin/true", self.source / "tool")
        shutil.copy("/bin/sh", self.source / "sh")
        script = folder / "script"
        script.write_text(f"#!{self.path}/sh\nexit 0\n")
        script.chmod(0o755)
        uncached = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
        self.server = subprocess.Popen(
            ["bindfs", "-f", "-o", uncached, self.source, self.path], stderr=subprocess.DEVNULL
        )
        wait_until(lambda: os.path.ismount(self.path) or self.server.poll() is not None)

    def die(self):
        self.server.send_signal(signal.SIGSTOP)
        wait_until(lambda: procfs.stat(self.server.pid).state == "T")

    def revive(self):
        self.server.send_signal(signal.SIGCONT)

    def close(self):
        self.revive()
        subprocess.run(["umount", "-l", self.path], check=False, stderr=subprocess.DEVNULL)
        self.server.terminate()
        self.server.wait(20)


@pytest.fixture
def disk(tmp_path):
    if not shutil.which("bindfs") or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs FUSE: /dev/fuse, bindfs and the right to mount")
    disk = DeadDisk(tmp_path)
    if disk.server.poll() is not None:
        pytest.skip("needs FUSE: /dev/fuse, bindfs and the right to mount")
    yield disk
    disk.close()


BELOW = {
    "directory": lambda disk: JobSpec("true", cwd=str(disk.path / "dir")),
    "command": lambda disk: JobSpec(str(disk.path / "tool")),
    "command in PATH": lambda disk: JobSpec("tool", env={"PATH": str(disk.path)}),
    "interpreter": lambda disk: JobSpec(str(disk.path.parent / "script")),
    "input": lambda disk: JobSpec("cat", stdin=disk.path / "input"),
}


@pytest.mark.parametrize("below", BELOW)
def test_a_dead_file_system_delays_no_other_job(engine, disk, below):
    """One dead network disk would stop every start, kill and end of the server."""
    spec = BELOW[below](disk)
    other = begin(engine, shell("echo ready; until [ -e go ]; do sleep 0.05; done; exit 7",
                                cwd=str(engine.state_dir)))  # fmt: skip
    disk.die()
    hung = [engine.submit(spec, "me") for _ in range(4)]
    for _ in range(5):
        assert run(engine, JobSpec("true")).state is State.COMPLETED
    killed = begin(engine, shell("echo ready; sleep 600"))
    assert engine.kill(killed.id, by="me").state is State.KILLED
    open(os.path.join(engine.state_dir, "go"), "w").close()
    assert engine.wait(other.id, 20).exit_code == 7  # though its launcher may hang by now
    assert all(engine.get(job.id).state is State.RUNNING for job in hung)
    for job in hung[:2]:
        ended = engine.kill(job.id, by="me", wait=20)
        assert (ended.state, ended.killed_by, ended.started_at) == (State.KILLED, "me", None)
        assert marked(job.id) == []
    disk.revive()
    assert [engine.wait(job.id, 20).state for job in hung[2:]] == [State.COMPLETED] * 2


def test_the_hanging_starts_of_one_owner_leave_launchers_to_others(engine, disk):
    """A user with forty jobs on a dead disk would stop the starts of everybody else."""
    disk.die()
    spec = JobSpec("true", cwd=str(disk.path / "dir"))
    hung = [engine.submit(spec, "me") for _ in range(40)]
    wait_until(lambda: hanging(engine) == start_limit.MOST)
    wait_until(lambda: engine.hanging_starts() == start_limit.MOST)  # what the metrics show
    for _ in range(5):
        assert run(engine, JobSpec("true"), "other").state is State.COMPLETED
    assert len(launcher_pids(engine.state_dir)) <= start_limit.MOST + 4
    ended = engine.kill(hung.pop().id, by="me", wait=20)  # no launcher has it
    assert (ended.state, ended.started_at) == (State.KILLED, None)
    engine._executor._send({"op": "upgrade"})  # the starts that are held back are not forgotten
    assert run(engine, JobSpec("true"), "other").state is State.COMPLETED
    disk.revive()
    assert {engine.wait(job.id, 60).state for job in hung} == {State.COMPLETED}


def hanging(engine):
    """Return how many children of launchers have not executed their program yet."""
    launchers = launcher_pids(engine.state_dir)
    below = [pid for launcher in launchers for pid in procfs.children(launcher)]
    return sum(not procfs.has_executed(pid) for pid in below)


def test_a_start_that_hangs_ends_at_its_timeout_or_the_deadline(tmp_path, disk, monkeypatch):
    """A job on a dead disk would hold its place for ever."""
    monkeypatch.setenv("WORKER_START_DEADLINE", "0.5")
    disk.die()
    with Engine(tmp_path / "state") as engine:
        for below in ("directory", "input"):
            job = run(engine, BELOW[below](disk))
            assert (job.state, job.started_at, job.exit_code) == (State.FAILED, None, None)
            assert job.reason.startswith("cannot start: its program was not loaded within 0.5 s")
            assert engine.read_output(job.id).decode() == job.reason + "\n"
        monkeypatch.undo()
    with Engine(tmp_path / "other") as engine:
        spec = JobSpec("true", cwd=str(disk.path / "dir"), timeout=0.5)
        job = run(engine, spec)
        assert (job.state, job.started_at) == (State.TIMED_OUT, None)
        assert job.reason == "timed out after 0.5 seconds"


def test_a_start_that_fails_late_says_why(engine, disk):
    """A disk that was away for a moment would cost a job the reason of its failure."""
    disk.die()
    jobs = [engine.submit(JobSpec(str(disk.path / "none")), "me") for _ in range(3)]
    assert run(engine, JobSpec("true")).state is State.COMPLETED
    disk.revive()
    for job in jobs:
        ended = engine.wait(job.id, 20)
        assert (ended.state, ended.exit_code) == (State.FAILED, 127)
        assert ended.reason == f"{disk.path}/none: no such file or directory"


def test_an_upgrade_does_not_wait_for_a_dead_file_system(engine, disk):
    """The supervisor could not be upgraded, or would forget the jobs that had not begun."""
    disk.die()
    job = engine.submit(JobSpec("true", cwd=str(disk.path / "dir")), "me")
    early = engine.submit(JobSpec("cat", stdin=disk.path / "input"), "me")
    stays = begin(engine, shell("echo ready; until [ -e go ]; do sleep 0.05; done; exit 7",
                                cwd=str(engine.state_dir)))  # fmt: skip
    before = launcher_pids(engine.state_dir)
    engine._executor._send({"op": "upgrade"})
    wait_until(lambda: not set(before) & set(launcher_pids(engine.state_dir)))
    assert run(engine, JobSpec("true")).state is State.COMPLETED
    open(os.path.join(engine.state_dir, "go"), "w").close()
    assert engine.wait(stays.id, 20).exit_code == 7
    disk.revive()
    assert engine.wait(job.id, 20).state is State.COMPLETED
    assert engine.wait(early.id, 20).state is State.COMPLETED
    assert engine.read_output(early.id) == b"input\n"


def test_no_job_starts_twice_when_the_supervisor_dies(engine, disk):
    """A start that hangs at that moment would be recorded as lost, and its job run later."""
    disk.die()
    spec = JobSpec("sh", ["-c", "echo once"], cwd=str(disk.path / "dir"))
    jobs = [engine.submit(spec, "me") for _ in range(2)]
    early = engine.submit(JobSpec("cat", stdin=disk.path / "input"), "me")
    assert run(engine, JobSpec("true")).state is State.COMPLETED
    pid = supervisor_pid(engine.state_dir)
    os.kill(pid, signal.SIGKILL)
    assert run(engine, JobSpec("true")).state is State.COMPLETED
    disk.revive()
    for job in jobs:
        ended = engine.wait(job.id, 20)
        assert ended.state is State.COMPLETED or (
            ended.state is State.LOST and not reports_exit_status()
        ), ended
        assert engine.read_output(job.id) == b"once\n"
    assert engine.wait(early.id, 20).state is State.COMPLETED  # it had not been forked
    assert engine.read_output(early.id) == b"input\n"


@pytest.mark.parametrize("kind", [{}, {"limits": Limits(open_files=50)}])
def test_a_process_that_is_stopped_before_exec_delays_no_other_job(engine, disk, kind):
    """A user who stops a process of theirs before its exec would stop every start."""
    disk.die()
    spec = JobSpec("sh", ["-c", "exit 5"], cwd=str(disk.path / "dir"), **kind)
    jobs = [engine.submit(spec, "me") for _ in range(4)]
    wait_until(lambda: len(list(filter(None, (children_of(engine, job) for job in jobs)))) == 4)
    stopped = [children_of(engine, job)[0] for job in jobs]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    disk.revive()
    for pid in stopped:
        wait_until(lambda pid=pid: procfs.stat(pid).state == "T")
    assert run(engine, JobSpec("true")).state is State.COMPLETED
    killed = engine.kill(jobs[0].id, by="me", wait=20)
    assert (killed.state, killed.started_at) == (State.KILLED, None)
    for pid in stopped[1:]:
        os.kill(pid, signal.SIGCONT)
    assert [engine.wait(job.id, 20).exit_code for job in jobs[1:]] == [5, 5, 5]


def children_of(engine, job):
    """Return the processes of a job that are no launchers."""
    launchers = launcher_pids(engine.state_dir)
    return [pid for pid in marked(job.id) if pid not in launchers]
