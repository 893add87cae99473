"""What a kill costs the supervisor, and that no kill holds up the jobs of others."""

import ctypes
import os
import signal
import uuid

import pytest
from support.core import Sleepers, begin, marked, shell
from support.waiting import wait_until
from worker_core import Engine, JobSpec, State
from worker_core.clock import SystemClock
from worker_core.disk.jobdir import JobDir, make_private_dir
from worker_core.linux import libc, procfs
from worker_core.supervisor import killer, reaper, tree
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.rundir import RunDir

SUBREAPER = 36  # linux/prctl.h: PR_SET_CHILD_SUBREAPER


@pytest.fixture
def supervising(tmp_path):
    """Supervise jobs in this process: yield the table, its loop and what is told."""
    libc.become_subreaper()
    told = []
    loop = Loop(SystemClock())
    groups = Cgroups.probe(str(tmp_path), loop.clock)
    if groups is None:
        pytest.skip("needs control groups")
    table = JobTable(
        RunDir(str(tmp_path)),
        loop,
        groups,
        root_jobs=True,
        emit=told.append,
        watched=lambda: True,
        on_empty=lambda: None,
    )
    loop.on_signals({signal.SIGCHLD: table.reap})
    yield table, loop, told
    table.launchers.close()
    ctypes.CDLL(None).prctl(SUBREAPER, 0, 0, 0, 0)
    groups.close()
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def turn(loop, condition):
    """Let the loop run until something is true."""

    def once():
        for key, ready in loop._selector.select(0.01):
            loop._guard(key.data, ready)
        loop._run_timers()
        return condition()

    wait_until(once)


def test_with_a_control_group_a_kill_walks_no_proc(supervising, tmp_path, monkeypatch):
    """Killing 3,000 jobs took two minutes: each kill looked at every process of the machine."""
    table, loop, told = supervising
    walks = []
    real = procfs.pids
    monkeypatch.setattr(procfs, "pids", lambda: walks.append(1) or real())
    ids = [str(uuid.uuid4()) for _ in range(20)]
    for job_id in ids:
        make_private_dir(JobDir(str(tmp_path), job_id).path)
        table.start(job_id, JobSpec("sleep", ["600"]).to_dict())
    turn(loop, lambda: all(table.jobs[job_id].leader for job_id in ids))
    for job_id in ids[:10]:
        table.kill(job_id, signum=signal.SIGTERM)
    for job_id in ids[10:]:
        table.signal(job_id, signal.SIGCONT)
        table.kill(job_id, signum=signal.SIGKILL)
    turn(loop, lambda: sum(each["event"] == "exited" for each in told) == len(ids))
    ends = [each["exit"] for each in told if each["event"] == "exited"]
    assert {(end["cause"], end["signal"]) for end in ends} == {("kill", 15), ("kill", 9)}
    assert walks == []


def test_a_signal_arrives_that_is_sent_before_the_start_is_reported(
    supervising, tmp_path, monkeypatch
):
    """A signal to a job that has only just begun would be answered with 200 and then lost."""
    table, loop, told = supervising
    job_id = str(uuid.uuid4())
    make_private_dir(JobDir(str(tmp_path), job_id).path)
    table.start(job_id, JobSpec("sleep", ["600"]).to_dict())
    with monkeypatch.context() as patched:
        patched.setattr(table.launchers, "hear", lambda: None)
        for signum in (signal.SIGCONT, signal.SIGKILL, signal.SIGKILL):
            table.signal(job_id, signum)
    turn(loop, lambda: any(each["event"] == "exited" for each in told))
    (end,) = [each["exit"] for each in told if each["event"] == "exited"]
    assert (end["cause"], end["signal"]) == ("own", signal.SIGKILL)


def test_a_process_that_has_left_the_group_is_killed_too():
    """A job with the right to move could leave its control group and survive its kill."""
    sleepers = Sleepers()
    with Engine() as engine:
        job = begin(engine, shell("echo ready; sleep 600"))
        group = procfs.cgroup(job.pid) or ""
        if os.path.basename(group) != job.id:
            pytest.skip("needs control groups")
        engine.kill(job.id, now=True)
        leave = f"echo 0 > {os.path.dirname(os.path.dirname(group))}/cgroup.procs"
        job = begin(engine, shell(f"(({leave}; exec setsid {sleepers}) &); echo ready; sleep 600"))
        sleepers.wait(1)
        assert engine.kill(job.id, now=True).state is State.KILLED
        assert sleepers.count() == 0
        job = begin(engine, shell(f"{leave}; ({sleepers} &); echo ready; sleep 600"))
        sleepers.wait(1)
        assert engine.kill(job.id).state is State.KILLED
        assert sleepers.count() == 0
        assert marked(job.id) == []


def test_processes_in_groups_below_the_job_s_own_get_its_signals():
    """A job that makes control groups would keep its processes there from its stop signal."""
    with Engine() as engine:
        job = begin(engine, shell("echo ready; sleep 600"))
        group = procfs.cgroup(job.pid) or ""
        if os.path.basename(group) != job.id:
            pytest.skip("needs control groups")
        engine.kill(job.id, now=True)
        base = os.path.dirname(group)
        script = (
            f"G={base}/$WORKER_JOB_ID/below; mkdir $G; "
            "(echo 0 > $G/cgroup.procs; trap 'echo heard' USR1; echo ready; "
            "while :; do sleep 0.01; done) & trap '' USR1; wait"
        )
        job = begin(engine, shell(script))
        engine.signal(job.id, "USR1")
        wait_until(lambda: b"heard" in engine.read_output(job.id))
        assert engine.kill(job.id).state is State.KILLED
        assert marked(job.id) == []


def test_the_orphans_of_another_job_are_looked_up_once(supervising, tmp_path, monkeypatch):
    """A job with 2,000 orphans made every end of every other job five times as slow."""
    table, loop, told = supervising
    script = "for n in 1 2 3 4 5 6 7 8 9; do (sleep 600 &); done; echo ready; sleep 600"

    def start(spec):
        job_id = str(uuid.uuid4())
        make_private_dir(JobDir(str(tmp_path), job_id).path)
        table.start(job_id, spec.to_dict())
        return job_id

    def end(job_id):
        turn(loop, lambda: job_id in [each["id"] for each in told if each["event"] == "exited"])

    holder = start(shell(script))
    mark = tree.mark(holder)

    def orphans():
        return [p for p in procfs.children(os.getpid()) if procfs.realtime_limit(p) == mark]

    turn(loop, lambda: len(orphans()) == 9)
    end(start(JobSpec("true")))
    left, looks = set(orphans()), []
    real = procfs.stat
    monkeypatch.setattr(procfs, "stat", lambda pid: looks.append(pid) or real(pid))
    end(start(JobSpec("true")))
    assert not left & set(looks)
    table.kill(holder, signum=signal.SIGKILL)
    end(holder)
    assert marked(holder) == []


def test_a_signal_to_a_large_tree_is_sent_in_parts(supervising, tmp_path, monkeypatch):
    """One kill of a job with thousands of processes held up all other jobs for a second."""
    table, loop, told = supervising
    monkeypatch.setattr(killer, "_SLICE", 4)
    sent, real = [], tree.send_all

    def send_all(targets, signum):
        reached = real(targets, signum)
        sent.append(len(reached))
        return reached

    monkeypatch.setattr(tree, "send_all", send_all)
    sleepers = Sleepers()
    script = f"for n in 1 2 3 4 5 6 7 8 9; do {sleepers} & done; wait"
    job_id = str(uuid.uuid4())
    make_private_dir(JobDir(str(tmp_path), job_id).path)
    table.start(job_id, shell(script).to_dict())
    turn(loop, lambda: table.jobs[job_id].leader and sleepers.count() == 9)
    table.kill(job_id, signum=signal.SIGTERM, grace=600.0)
    turn(loop, lambda: any(each["event"] == "exited" for each in told))
    assert sent[0] == 4
    assert all(count <= 4 for count in sent)
    assert marked(job_id) == []


def test_many_orphans_are_reaped_in_parts(supervising, tmp_path, monkeypatch):
    """The end of a job with thousands of processes held up all other jobs until each was reaped."""
    table, loop, told = supervising
    monkeypatch.setattr(reaper, "_MOST", 3)
    counts, wait4, reap = [0], os.wait4, table._reaper.reap

    def counting(pid, options):
        counts[-1] += 1
        return wait4(pid, options)

    def in_parts():
        counts.append(0)
        reap()

    monkeypatch.setattr(os, "wait4", counting)
    monkeypatch.setattr(table._reaper, "reap", in_parts)
    loop.on_signals({signal.SIGCHLD: in_parts})
    sleepers = Sleepers()
    script = f"for n in 1 2 3 4 5 6 7 8 9; do ({sleepers} &); done; {sleepers}"
    job_id = str(uuid.uuid4())
    make_private_dir(JobDir(str(tmp_path), job_id).path)
    table.start(job_id, shell(script).to_dict())
    turn(loop, lambda: table.jobs[job_id].leader and sleepers.count() == 10)
    table.kill(job_id, signum=signal.SIGKILL)
    turn(loop, lambda: any(each["event"] == "exited" for each in told) and sum(counts) >= 9)
    assert max(counts) == 3
    assert marked(job_id) == []
