"""When the operating system fails: the supervisor goes on, and no job is misreported."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import support
from support.core import begin, launcher_pids, marked, run, shell, supervisor_pid, waiting_for
from support.waiting import wait_until
from worker_core import Engine, EngineSettings, JobSpec, Limits, State, StoreUnavailable
from worker_core.clock import SystemClock
from worker_core.linux import libc
from worker_core.store import database
from worker_core.supervisor import cgroup
from worker_core.testing import faults
from worker_core.testing.fakes import FakeClock

FAULTS = {
    "fork": "EAGAIN",
    "open": "EMFILE",
    "rename": "ENOSPC",
    "write": "ENOSPC",
    "send": "ENOBUFS",
    "proc": "ENFILE",
}


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6, 8, 11])
@pytest.mark.parametrize("what", FAULTS)
def test_the_supervisor_goes_on_when_the_nth_call_fails(tmp_path, monkeypatch, what, nth):
    """One moment of shortage would end the supervisor, hang a job, or invent an end."""
    monkeypatch.setenv("WORKER_FAULTS", f"{what}:{nth}:{FAULTS[what]}")
    with Engine(tmp_path) as engine:
        pid = supervisor_pid(engine.state_dir)
        monkeypatch.delenv("WORKER_FAULTS")
        ends = [run(engine, shell("echo out; exit 3")) for _ in range(3)]
        assert [(job.state, job.exit_code) for job in ends] == [(State.FAILED, 3)] * 3
        assert all(engine.read_output(job.id) == b"out\n" for job in ends)
        missing = run(engine, JobSpec("echi"))
        assert missing.reason == "echi: command not found"
        killed = engine.submit(JobSpec("sleep", ["600"]), "me")
        assert engine.kill(killed.id, by="me", wait=20).state is State.KILLED
        assert supervisor_pid(engine.state_dir) == pid


def test_a_disk_that_stays_full_holds_the_end_back_until_it_can_be_recorded(tmp_path, monkeypatch):
    """An end would be reported although it is recorded nowhere."""
    monkeypatch.setenv("WORKER_FAULTS", "create:1:ENOSPC*5")
    with Engine(tmp_path) as engine:
        assert run(engine, shell("exit 3")).exit_code == 3
        assert (tmp_path / "supervisor.log").read_text().count("cannot record its end") == 5


def test_a_shortage_that_lasts_fails_the_job_and_says_so(tmp_path, monkeypatch):
    """A job would wait for ever for a process that the machine cannot give."""
    monkeypatch.setenv("WORKER_FAULTS", "fork:1:EAGAIN*1000000")
    monkeypatch.setenv("WORKER_START_PATIENCE", "0.3")
    with Engine(tmp_path) as engine:
        job = run(engine, JobSpec("true"))
    assert (job.state, job.started_at) == (State.FAILED, None)
    assert job.reason.startswith("cannot start a process now: ")


def test_a_job_that_waits_for_a_process_can_be_killed(tmp_path, monkeypatch):
    """A kill would be lost on a job that has no process yet."""
    monkeypatch.setenv("WORKER_FAULTS", "fork:1:EAGAIN*1000000")
    with Engine(tmp_path) as engine:
        job = engine.submit(JobSpec("true"), "me")
        wait_until((tmp_path / "jobs" / job.id / "spec.json").exists)
        job = engine.kill(job.id, by="me")
        assert (job.state, job.started_at, job.exit_code) == (State.KILLED, None, None)


def test_a_job_that_waits_for_its_claim_can_be_killed(tmp_path, monkeypatch):
    """On a full disk a kill would be forgotten, and the job run once there is space."""
    # The claim is written only where a file can have one name only.
    monkeypatch.setenv("WORKER_FAULTS", "link:1:EMLINK*1000,write:1:ENOSPC*10")
    log = tmp_path / "supervisor.log"
    with Engine(tmp_path) as engine:
        job = engine.submit(shell(f"touch {tmp_path}/ran; sleep 600"), "me")
        wait_until(lambda: "cannot write its claim" in log.read_text())
        job = engine.kill(job.id, by="me")
        assert (job.state, job.started_at, job.exit_code) == (State.KILLED, None, None)
        assert run(engine, JobSpec("true")).state is State.COMPLETED
    assert not (tmp_path / "ran").exists()


def test_a_start_that_fails_again_and_again_holds_no_descriptors(tmp_path, monkeypatch):
    """A machine short of processes would run the supervisor out of descriptors too."""
    monkeypatch.setenv("WORKER_FAULTS", "fork:1:EAGAIN*10")
    with Engine(tmp_path) as engine:
        run(engine, JobSpec("true"))  # what it opens once, it keeps
        # A launcher is a fork, too; one more than two, made because a start waited, ends again.
        wait_until(lambda: len(launcher_pids(engine.state_dir)) == 2)
        folder = f"/proc/{supervisor_pid(engine.state_dir)}/fd"
        before = os.listdir(folder)
        run(engine, JobSpec("true", limits=Limits(open_files=100)))
        wait_until(lambda: len(os.listdir(folder)) == len(before))


def test_what_cannot_be_sent_to_the_supervisor_is_done_all_the_same(tmp_path):
    """A job would be promised and never start, or a kill be forgotten."""
    with Engine(tmp_path) as engine:
        for _ in range(3):
            restore = faults.install("send:1:ENOBUFS")
            try:
                job = begin(engine, shell("echo ready; sleep 600"))
                restore()
                restore = faults.install("send:1:ENOBUFS")
                assert engine.kill(job.id, by="me", wait=20).state is State.KILLED
            finally:
                restore()


def test_no_job_is_put_into_the_group_of_another(monkeypatch, tmp_path):
    """The end of one job would kill a second one, which would look as if it had failed."""
    for name in ("home", "a", "b"):
        (tmp_path / name).mkdir()
    groups = cgroup.Cgroups(str(tmp_path), f"{tmp_path}/home", SystemClock())
    groups.enter("a")
    groups.leave()  # fails: there is no file to write to
    with pytest.raises(BlockingIOError, match="the group of an earlier job"):
        groups.enter("b")
    with pytest.raises(BlockingIOError, match="the group of an earlier job"):
        groups.make("b", [])
    for name in ("home", "b"):
        (tmp_path / name / "cgroup.procs").touch()
    groups.enter("b")
    groups.leave()
    assert [path.parent.name for path in sorted(tmp_path.glob("*/cgroup.procs"))] == ["b", "home"]
    assert (tmp_path / "b" / "cgroup.procs").read_text() == "0"
    assert (tmp_path / "home" / "cgroup.procs").read_text() == "00"  # before "b" as well


def test_the_supervisor_enters_no_group_with_limits(monkeypatch):
    """A job with next to no memory would have the kernel end the supervisor of all jobs."""
    entered, written = [], []
    monkeypatch.setattr(cgroup, "_make", lambda path: None)
    monkeypatch.setattr(cgroup, "_write", lambda *args: written.append(args))
    monkeypatch.setattr(cgroup, "_enter", entered.append)
    entry = cgroup.Cgroups("/jobs", "/home", SystemClock()).make("a", [("memory.max", "4096")])
    assert written == [("/jobs/a/memory.max", "4096")]
    assert entered == []
    entry.enter()  # as the child does
    assert entered == ["/jobs/a"]


@pytest.mark.parametrize("filtered", [False, True])
def test_where_no_child_can_be_forked_into_a_group_it_enters_by_itself(
    tmp_path, monkeypatch, filtered
):
    """In a container that filters clone3 no job would start, or none be in its group."""

    def fork_into(directory):
        if filtered:
            raise OSError(errno.ENOSYS, "Function not implemented")
        forked.append(os.readlink(f"/proc/self/fd/{directory}"))
        return os.fork()

    forked, entered = [], []
    monkeypatch.setattr(libc, "fork_into", fork_into)
    monkeypatch.setattr(cgroup, "_enter", entered.append)
    groups = cgroup.Cgroups(str(tmp_path), "/home", SystemClock())
    groups._try(f"{tmp_path}/trial")
    assert groups.fork_is_faster() != filtered
    forked.clear()
    entered.clear()
    entry = groups.make("a", [])
    pid = entry.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    entry.enter()  # as the child does
    assert (forked, entered) == (([], [f"{tmp_path}/a"]) if filtered else ([f"{tmp_path}/a"], []))


def test_a_fork_is_the_faster_way_only_while_few_jobs_are_started():
    """Python would be forked for each of many, or each of few wait for the kernel's grace."""
    clock = FakeClock()
    groups = cgroup.Cgroups("/jobs", "/home", clock)
    groups._forks_into = True
    assert [groups.fork_is_faster() for _ in range(6)] == [True] * 2 + [False] * 4
    clock.advance(0.1)
    assert groups.fork_is_faster()


def test_a_job_without_a_group_runs_unless_it_has_limits(monkeypatch):
    """No job could run without control groups, or limits would be ignored silently."""

    def refuse(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cgroup, "_make", refuse)
    monkeypatch.setattr(cgroup, "_enter", refuse)
    groups = cgroup.Cgroups("/jobs", "/home", SystemClock())
    groups.make("a", []).enter()
    with pytest.raises(OSError, match="No space left"):
        groups.make("a", [("pids.max", "1")])


def test_an_end_that_cannot_be_synced_is_recorded_later(tmp_path, monkeypatch):
    """What ends while no engine is there would be lost with the first error of the disk."""
    monkeypatch.setenv("WORKER_FAULTS", "fsync:1:EIO*3")
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(waiting_for(tmp_path / "go") + "; exit 3"))
    (tmp_path / "go").touch()
    wait_until((tmp_path / "jobs" / job.id / "exit.json").exists)
    with Engine(tmp_path) as engine:
        assert engine.wait(job.id, 10).exit_code == 3
    assert (tmp_path / "supervisor.log").read_text().count("cannot record its end") == 3


def test_a_locked_database_refuses_new_jobs_and_loses_no_end(tmp_path, monkeypatch):
    """A backup that holds the database would cost the ends of jobs, or accept jobs for nothing."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    with Engine(tmp_path) as engine:
        job = engine.submit(shell(f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 3"), "me")
        wait_until(lambda: engine.get(job.id).started_at)
        other = sqlite3.connect(tmp_path / "worker.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            engine.submit(JobSpec("true"), "me")
        (tmp_path / "go").touch()
        wait_until((tmp_path / "jobs" / job.id / "exit.json").exists)
        wait_until(lambda: engine.get(job.id).state is State.STOPPING)
        assert "locked" in engine.get(job.id).reason
        assert "locked" in engine.health()["store"]
        other.execute("ROLLBACK")
        other.close()
        assert engine.wait(job.id, 20).exit_code == 3
        assert len(engine.list().jobs) == 1
        assert sorted(os.listdir(tmp_path / "jobs")) == [job.id]
        assert run(engine, JobSpec("true")).state is State.COMPLETED
        assert engine.health()["store"] == "ok"


def test_a_database_that_is_free_again_is_well_without_a_job(tmp_path, monkeypatch):
    """Nobody sends jobs to a server that is not ready, so that it would never be again."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    with Engine(tmp_path) as engine:
        other = sqlite3.connect(tmp_path / "worker.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            engine.submit(JobSpec("true"), "me")
        assert engine.health()["store"] == "database is locked"
        other.execute("ROLLBACK")
        other.close()
        assert engine.health()["store"] == "ok"


def test_a_kill_is_obeyed_although_it_cannot_be_recorded_now(tmp_path, monkeypatch):
    """The job that fills the disk could not be ended because the disk is full."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    with Engine(tmp_path, settings=EngineSettings(max_running=2)) as engine:
        job = begin(engine, shell("echo ready; sleep 600"))
        ends = begin(engine, shell(waiting_for(tmp_path / "go")))
        waits = engine.submit(JobSpec("true"), "me")
        other = sqlite3.connect(tmp_path / "worker.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        engine.kill(job.id, by="me", wait=0)
        wait_until(lambda: not marked(job.id))
        with pytest.raises(StoreUnavailable):  # it could begin after a crash: no promise
            engine.kill(waits.id, by="me")
        (tmp_path / "go").touch()
        wait_until((tmp_path / "jobs" / ends.id / "exit.json").exists)
        assert engine.kill(ends.id, by="me", wait=0).state is State.STOPPING
        other.execute("ROLLBACK")
        other.close()
        job = engine.wait(job.id, 20)
        assert (job.state, job.signal, job.killed_by) == (State.KILLED, 15, "me")
        assert engine.wait(ends.id, 20).state is State.COMPLETED  # before it was asked to end
        assert engine.wait(waits.id, 20).state is State.COMPLETED


def on_a_small_disk(tmp_path, module, options):
    """Run a module of `support` on a tmpfs that no other process sees.

    It is the first process of a pid namespace: with it end its supervisor and all jobs, also if an
    assertion fails.
    """
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("needs root: mounts a small disk, seen by nobody else")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o "$4" none "$1" && exec "$2" -m "$3" "$1"'
    done = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", disk, sys.executable, module, options],
        env=os.environ | {"PYTHONPATH": str(Path(support.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk_refuses_and_holds_back_and_can_be_emptied(tmp_path):
    """A full disk would cost ends, or could only be helped by an administrator."""
    on_a_small_disk(tmp_path, "support.full_disk", "size=4m")


def test_a_disk_that_fails_is_said_and_what_ended_is_recorded_afterwards(tmp_path):
    """A process that has ended would be shown as running, without a reason."""
    on_a_small_disk(tmp_path, "support.failing_disk", "size=32m,nr_inodes=500")


def test_an_end_that_the_supervisor_cannot_record_is_no_running_job(tmp_path, monkeypatch):
    """A process that has ended would be shown as running, without a reason."""
    monkeypatch.setenv("WORKER_FAULTS", "create:1:EIO*20")
    with Engine(tmp_path) as engine:
        job = engine.submit(shell("exit 3"), "me")
        why = "its process has ended, but that cannot be recorded yet: Input/output error"
        wait_until(lambda: engine.get(job.id).reason == why)
        assert engine.get(job.id).state is State.STOPPING
        assert engine.wait(job.id, 20).exit_code == 3


def test_an_end_that_cannot_be_stored_is_no_running_job(tmp_path, monkeypatch):
    """A process that has ended would be shown as running, without a reason."""
    with Engine(tmp_path) as engine:
        go = tmp_path / "go"
        job = begin(engine, shell(waiting_for(go) + "; exit 3"))
        engine._store.write(lambda db: None).result()
        engine._store._database._writer.execute("PRAGMA query_only = 1")
        go.touch()
        why = (
            "its process has ended, but that cannot be recorded yet: "
            "attempt to write a readonly database"
        )
        wait_until(lambda: engine.get(job.id).reason == why)
        shown = engine.kill(job.id, by="me", wait=0)
        assert (shown.state, shown.reason, shown.exit_code) == (State.STOPPING, why, None)
        assert engine.health()["store"] == "attempt to write a readonly database"
        engine._store._database._writer.execute("PRAGMA query_only = 0")
        assert engine.wait(job.id, 20).exit_code == 3
        assert engine._jobs._unrecorded == {}


def test_a_job_whose_input_cannot_be_stored_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    """A job would run with half of its input, or its slot would be lost."""
    with Engine(tmp_path) as engine:
        restore = faults.install("write:1:ENOSPC*3")
        try:
            with pytest.raises(StoreUnavailable, match="No space left on device"):
                engine.submit(JobSpec("cat", stdin=b"x" * 100), "me")
        finally:
            restore()
        assert engine.counts() == {"running": 0, "queued": 0}
        assert os.listdir(tmp_path / "jobs") == []
        job = run(engine, JobSpec("cat", stdin=b"x" * 100))
        assert engine.read_output(job.id) == b"x" * 100


def test_a_fault_is_counted_and_then_over():
    """The tests above would prove nothing."""
    restore = faults.install("fsync:2:EIO*2")
    try:
        seen = []
        with open(os.devnull, "wb") as file:
            for _ in range(4):
                try:
                    os.fsync(file.fileno())
                except OSError as error:
                    seen.append(error.errno)
    finally:
        restore()
    assert seen.count(errno.EIO) == 2
    with pytest.raises(ValueError, match="WHAT:NTH:ERRNO"):
        faults.parse("fork:1")
    with pytest.raises(ValueError, match="WHAT:NTH:ERRNO"):
        faults.parse("nap:1:EIO")
