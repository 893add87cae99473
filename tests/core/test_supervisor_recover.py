"""What a new supervisor learns about a job of which it knows little more than the claim."""

import contextlib
import errno
import os
import signal
import subprocess
import time
import uuid
from types import SimpleNamespace

import pytest
from support.waiting import wait_until
from worker_core import JobSpec, Limits
from worker_core.clock import SystemClock
from worker_core.disk.jobdir import JobDir, Kill, boot_id, make_private_dir
from worker_core.linux import procfs
from worker_core.supervisor import recover, tree
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.start_log import StartLog


@pytest.mark.parametrize(
    ("seconds_after_boot", "why"),
    [(-60, "the machine was restarted"), (1, "it ended while no supervisor was there")],
)
@pytest.mark.parametrize("claim", ['{"stop_signal": "SIGTERM"}', ""])
def test_the_reason_tells_a_power_cut_from_a_crash(tmp_path, seconds_after_boot, why, claim):
    """After a power cut, people would look for a fault in worker."""
    jobdir = JobDir(str(tmp_path), str(uuid.uuid4()))
    make_private_dir(jobdir.path)
    with open(jobdir.file("spec.json"), "w") as file:
        file.write(claim)
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    os.utime(jobdir.file("spec.json"), times=(booted + seconds_after_boot,) * 2)
    ends = []
    processes = SimpleNamespace(
        run_dir=RunDir(str(tmp_path)),
        jobs={},
        start_log=StartLog(str(tmp_path)),
        boot=boot_id(),
        now=time.time,
        take_lost=lambda process, end: ends.append(end),
    )
    assert recover.known(processes, jobdir.job_id) == {"running": None, "stopping": False}
    assert [end.cause for end in ends] == ["lost"]
    assert ends[0].reason.startswith(f"the end could not be observed: {why}")


KILL = Kill("kill", None, [2], False, 0.0, 130.0)
GENTLE = {"signalled": [2], "kill_in": 30.0}


@pytest.mark.parametrize(("kill", "told"), [(None, {}), (KILL, GENTLE)])
def test_the_engine_learns_which_kill_is_under_way(tmp_path, kill, told):
    """A kill would be sent twice, or a harder kill that was lost would be forgotten."""
    process = SimpleNamespace(pid=None, kill=kill, unrecorded=None)
    processes = SimpleNamespace(
        run_dir=RunDir(str(tmp_path)),
        jobs={"id": process},
        kill_due=lambda kill: kill.kill_at_boottime,
        monotonic=lambda: 100.0,
    )
    found = {"running": None, "stopping": kill is not None}
    assert recover.known(processes, "id") == found | told


@contextlib.contextmanager
def supervising(directory):
    """Supervise the jobs of a directory in this process; yield the table and the events."""
    told = []
    loop = Loop(SystemClock())
    processes = JobTable(
        RunDir(str(directory)),
        loop,
        None,
        root_jobs=True,
        emit=told.append,
        watched=lambda: True,
        on_empty=lambda: None,
    )
    yield processes, told
    processes.launchers.close()
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


@pytest.fixture
def begun(tmp_path):
    """Return a function that starts a job and returns the table, the leader and the files."""
    leaders = []
    with supervising(tmp_path) as (processes, told):

        def begin(**limits):
            directory = JobDir(str(tmp_path), str(uuid.uuid4()))
            make_private_dir(directory.path)
            spec = JobSpec("sleep", ["600"], limits=Limits(**limits))
            processes.start(directory.job_id, spec.to_dict())
            wait_until(
                lambda: processes.launchers.hear() or processes.jobs[directory.job_id].leader
            )
            leaders.append(processes.jobs[directory.job_id].leader)
            assert told == []  # of a job that may be over in a moment
            return processes, leaders[-1], directory

        yield begin
        for leader in leaders:
            os.kill(leader, signal.SIGKILL)


def test_each_leader_is_recorded_before_an_upgrade(begun):
    """After an upgrade, a job that has just begun would be found by its mark only."""
    processes, leader, directory = begun()
    assert directory.pid() is None
    processes.record_all()
    recorded = directory.pid()
    assert (recorded.pid, recorded.start_time) == (leader, procfs.stat(leader).start_time)


def test_without_a_mark_each_leader_is_recorded_at_once(begun, monkeypatch):
    """If the supervisor died, the next one would not find the job."""
    monkeypatch.setattr(tree, "can_mark", lambda _: False)
    _, leader, directory = begun()
    assert directory.pid().pid == leader


def test_what_enforces_the_limits_of_a_job_is_recorded_at_once(begun):
    """If the supervisor died now, the record would say that nothing enforces the limits."""
    _, leader, directory = begun(open_files=100)
    recorded = directory.pid()
    assert (recorded.pid, recorded.enforced) == (leader, {"open_files": "rlimit"})


@pytest.fixture
def heir(tmp_path):
    """The table of a new supervisor for the same directory, and its events."""
    with supervising(tmp_path) as (processes, told):
        yield processes, told


def test_a_leader_known_by_its_mark_has_run_since_its_start(begun, heir, monkeypatch):
    """A supervisor that starts an hour later would report that the job began now."""
    _, _, directory = begun()
    processes, _ = heir
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(time, "clock_gettime", lambda _: up + 3600)
    recover.known(processes, directory.job_id)
    assert directory.pid().started_at == pytest.approx(time.time() - 3600, abs=10)


def test_leftovers_of_a_leader_are_not_taken_for_the_leader(tmp_path, heir):
    """A job whose leader has ended would look as if it ran, until all that it has left behind has
    ended too."""
    processes, told = heir
    directory = JobDir(str(tmp_path), str(uuid.uuid4()))
    make_private_dir(directory.path)
    assert directory.claim(JobSpec("sh").to_dict())
    with tree.marked(directory.job_id):
        leader = subprocess.Popen(
            ["sh", "-c", "sleep 600 >&- & echo $!"], stdout=subprocess.PIPE, start_new_session=True
        )
    left, _ = leader.communicate(timeout=10)
    recover.known(processes, directory.job_id)
    wait_until(lambda: procfs.stat(int(left)) is None or procfs.stat(int(left)).ended)
    wait_until(lambda: processes._loop._run_timers() or told)
    assert [(each["event"], each["exit"]["cause"]) for each in told] == [("exited", "lost")]


def test_a_leftover_with_a_session_of_its_own_is_not_taken_for_the_leader(tmp_path):
    """A job that has ended would be shown as running for as long as its daemon lives."""
    directory = JobDir(str(tmp_path), str(uuid.uuid4()))
    make_private_dir(directory.path)
    assert directory.claim(JobSpec("sh").to_dict())
    with tree.marked(directory.job_id):
        leader = subprocess.Popen(
            ["sh", "-c", "setsid sleep 600 >&- & echo $!"],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    StartLog(str(tmp_path)).note(directory.job_id, leader.pid)
    left = int(leader.communicate(timeout=10)[0])
    wait_until(lambda: procfs.stat(left).session == left)
    with supervising(tmp_path) as (processes, told):
        recover.known(processes, directory.job_id)
        wait_until(lambda: processes._loop._run_timers() or told)
    assert [(each["event"], each["exit"]["cause"]) for each in told] == [("exited", "lost")]
    assert "it ended while no supervisor was there to see it;" in told[0]["exit"]["reason"]


def test_the_start_log_is_kept_over_restarts_and_does_not_grow_without_end(tmp_path):
    """After a second crash the notes from before the first would be missing."""
    first = StartLog(str(tmp_path))
    first.note("a", 1)
    StartLog(str(tmp_path)).note("b", 2)
    third = StartLog(str(tmp_path))
    assert [third.leader(each) for each in "abc"] == [1, 2, None]
    file = tmp_path / "supervisor.births"
    file.write_bytes(file.read_bytes() + b"cut off 1 2\nc x\n" + b"\n" * (1 << 18))
    fourth = StartLog(str(tmp_path))
    assert [fourth.leader(each) for each in "abc"] == [1, 2, None]
    fourth.claimed("d")
    assert file.read_text().split() == ["boot", boot_id(), "d", "-"]


def test_a_job_that_was_claimed_and_not_forked_is_known_for_certain(tmp_path):
    """A job would run twice, or be lost although it can be started."""
    start_log = StartLog(str(tmp_path))
    for job_id in "abcd":
        start_log.claimed(job_id)
    start_log.forking("b")
    start_log.note("c", 3)
    start_log.forking("d")
    start_log.claimed("d")  # it could not be forked
    after = StartLog(str(tmp_path))
    assert [after.never_forked(each) for each in "abcde"] == [True, False, False, True, False]
    after.claimed("a")  # the next try
    assert not after.never_forked("a")


def test_after_a_crash_of_the_machine_nothing_is_certain(tmp_path):
    """The note of a fork may not have reached the disk, and the job would run twice."""
    start_log = StartLog(str(tmp_path))
    start_log.claimed("a")
    file = tmp_path / "supervisor.births"
    file.write_text(file.read_text().replace(boot_id(), "another"))
    second = StartLog(str(tmp_path))
    second.claimed("b")
    third = StartLog(str(tmp_path))
    assert [third.never_forked(each) for each in "ab"] == [False, True]


def test_no_job_is_forked_if_its_note_cannot_be_written(tmp_path, monkeypatch):
    """On a full disk a job would run twice after the supervisor has ended."""
    start_log = StartLog(str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    start_log.claimed("a")
    start_log.note("a", 1)
    with pytest.raises(OSError, match="No space"):
        start_log.forking("a")
    monkeypatch.setattr(os, "write", lambda _, data: len(data) - 1)
    with pytest.raises(OSError, match="only"):
        start_log.forking("a")
