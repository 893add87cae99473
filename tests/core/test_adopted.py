"""The end of jobs whose supervisor was killed: exact where the kernel reports it, else lost."""

import contextlib
import errno
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.core import begin, shell, supervisor_pid, wait_gone, waiting_for
from support.kernel import needs_exit_status, reports_exit_status
from support.systemd import Manager
from support.waiting import wait_until
from worker_core import DescriptorStore, Engine, EngineSettings, Isolation, State
from worker_core.disk.jobdir import Exit, JobDir, Pid
from worker_core.linux import libc, procfs
from worker_core.supervisor import exit_status, outcome, running_job
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.rundir import RunDir
from worker_core.testing.fakes import FakeClock

NOTE = "it ended while no supervisor was running, before the time recorded here"

# Script -> state, exit code, signal, reason.
ENDS = {
    "exit 0": (State.COMPLETED, 0, None, None),
    "exit 3": (State.FAILED, 3, None, "exit code 3"),
    "exit 41": (State.FAILED, 41, None, "exit code 41"),
    "kill -SEGV $$": (State.FAILED, None, 11, "ended by signal SIGSEGV (11)"),
    "kill -KILL $$": (State.FAILED, None, 9, "ended by signal SIGKILL (9)"),
}


def end_of(job):
    return job.state, job.exit_code, job.signal, job.reason


def noted(end):
    state, exit_code, signum, reason = end
    return state, exit_code, signum, NOTE if reason is None else f"{reason}; {NOTE}"


@pytest.fixture
def inherited():
    """Become the parent of orphans, as init is elsewhere; yield a function that reaps one."""

    def reap(pid):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    libc._libc.prctl(libc._PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield reap
    libc._libc.prctl(libc._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def kill_supervisor(engine, reap):
    """SIGKILL the supervisor of an engine; return its pid once it is gone."""
    pid = supervisor_pid(engine.state_dir)
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    reap(pid)
    return pid


@pytest.fixture
def manager(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    yield manager
    manager.close()


@contextlib.contextmanager
def held_up(engine):
    """Let no other supervisor start in this block."""
    spawn, engine._executor._spawn = engine._executor._spawn, lambda: "not yet"
    yield
    engine._executor._spawn = spawn


def adopted(engine, before):
    """Wait for the next supervisor to have taken up the jobs; return its pid."""
    wait_until(lambda: supervisor_pid(engine.state_dir) not in (None, before))
    wait_until(lambda: engine.health()["supervisor"] == "ok")
    return supervisor_pid(engine.state_dir)


def leader(engine, job):
    return JobDir(engine.state_dir, job.id).pid().pid


@needs_exit_status
def test_a_job_that_ends_after_its_supervisor_was_killed_has_its_true_end(tmp_path, inherited):
    """An update or a shortage of memory would cost the outcome of every running job."""
    with Engine(tmp_path) as engine:
        scripts = {end: f"{waiting_for(tmp_path / 'go')}; {end}" for end in ENDS}
        jobs = {end: begin(engine, shell(script)) for end, script in scripts.items()}
        leaders = [leader(engine, job) for job in jobs.values()]
        first = kill_supervisor(engine, inherited)
        second = adopted(engine, first)
        kill_supervisor(engine, inherited)  # and once more
        adopted(engine, second)
        assert [engine.get(job.id).state for job in jobs.values()] == [State.RUNNING] * len(ENDS)
        (tmp_path / "go").touch()
        for pid in leaders:
            inherited(pid)
        for end, job in jobs.items():
            ended = engine.wait(job.id, 30)
            assert end_of(ended) == ENDS[end]
            assert ended.usage.wall_seconds > 0


@needs_exit_status
def test_a_job_that_nobody_has_reaped_yet_has_its_true_end(tmp_path, inherited):
    """Where init is slow, jobs that ended meanwhile would be lost although zombies are left."""
    with Engine(tmp_path) as engine:
        scripts = {end: f"{waiting_for(tmp_path / 'go')}; {end}" for end in ENDS}
        jobs = {end: begin(engine, shell(script)) for end, script in scripts.items()}
        leaders = [leader(engine, job) for job in jobs.values()]
        pid = supervisor_pid(engine.state_dir)
        os.kill(pid, signal.SIGSTOP)
        (tmp_path / "go").touch()
        for each in leaders:
            wait_gone(each)
        kill_supervisor(engine, inherited)
        for end, job in jobs.items():
            assert end_of(engine.wait(job.id, 30)) == noted(ENDS[end])
        for each in leaders:
            inherited(each)


@pytest.fixture
def go():
    """The path of a file that jobs of every account can see."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder) / "go"


def begin_all(engine, go, isolation=None, run_as=None):
    """Start one job for each of ENDS, which ends once the file is there."""
    jobs = {}
    for end in ENDS:
        spec = shell(f"{waiting_for(go)}; {end}", isolation=isolation or Isolation())
        jobs[end] = engine.submit(spec, "me", run_as=run_as)
    for job in jobs.values():
        wait_until(lambda job=job: b"ready" in engine.read_output(job.id))
        wait_until(lambda job=job: engine.get(job.id).started_at)
    return jobs


def end_unseen(engine, jobs, go, reap):
    """Have all jobs end and be reaped, then have the supervisor end: it has seen nothing of it."""
    leaders = [leader(engine, job) for job in jobs.values()]
    pid = supervisor_pid(engine.state_dir)
    os.kill(pid, signal.SIGSTOP)
    go.touch()
    for each in leaders:
        wait_gone(each)
    kill_supervisor(engine, reap)
    for each in leaders:
        reap(each)


@needs_exit_status
@pytest.mark.parametrize("how", ["plain", "box", "account"])
def test_a_job_that_ends_while_no_supervisor_is_running_has_its_true_end(
    tmp_path, go, inherited, how
):
    """A restart of the supervisor would cost the outcomes of jobs that end in that moment."""
    if how == "account" and os.geteuid() != 0:
        pytest.skip("needs root")
    isolation = Isolation(pid_namespace=how == "box")
    with Engine(tmp_path) as engine:
        run_as = "nobody" if how == "account" else None
        jobs = begin_all(engine, go, isolation, run_as)
        with held_up(engine):
            end_unseen(engine, jobs, go, inherited)
        for end, job in jobs.items():
            ended = engine.wait(job.id, 30)
            assert end_of(ended) == noted(ENDS[end])
            assert ended.usage.wall_seconds > 0


@needs_exit_status
def test_an_engine_that_came_later_keeps_what_the_supervisor_started_before(
    tmp_path, go, inherited
):
    """After a restart of the daemon, a crash of the supervisor would cost all outcomes again."""
    with Engine(tmp_path) as engine:
        jobs = begin_all(engine, go)
    with Engine(tmp_path) as engine:
        kill_supervisor(engine, inherited)
        wait_until(lambda: engine.health()["supervisor"] == "ok")
        with held_up(engine):  # the second death, of a supervisor that had adopted them
            end_unseen(engine, jobs, go, inherited)
        for end, job in jobs.items():
            assert end_of(engine.wait(job.id, 30)) == noted(ENDS[end])


@needs_exit_status
def test_daemon_and_supervisor_may_both_die_below_systemd(tmp_path, go, inherited, manager):
    """A shortage of memory would cost the outcome of every job that ends meanwhile."""
    with Engine(tmp_path / "state", descriptor_store=DescriptorStore()) as engine:
        jobs = begin_all(engine, go)
        with held_up(engine):
            end_unseen(engine, jobs, go, inherited)
    store = DescriptorStore(manager.passed())
    with Engine(tmp_path / "state", descriptor_store=store) as engine:
        for end, job in jobs.items():
            assert end_of(engine.wait(job.id, 30)) == noted(ENDS[end])


@needs_exit_status
def test_a_supervisor_that_is_a_service_takes_back_what_systemd_has_kept(
    tmp_path, go, inherited, manager
):
    """Where root's supervisor runs the jobs, nothing may come from the engine."""
    state_dir = tmp_path / "state"
    state_dir.mkdir(0o700)
    argv = [sys.executable, "-m", "worker_core.supervisor", str(state_dir), "--foreground"]
    settings = EngineSettings(start_supervisor=False)
    first = manager.start(argv)
    try:
        wait_until((state_dir / "supervisor.sock").exists)
        with Engine(state_dir, settings=settings) as engine:
            jobs = begin_all(engine, go)
            leaders = [leader(engine, job) for job in jobs.values()]
        manager.read()
        first.send_signal(signal.SIGSTOP)
        go.touch()
        for each in leaders:
            wait_gone(each)
    finally:
        first.kill()
        first.wait(30)
    for each in leaders:
        inherited(each)
    second = manager.start(argv)
    try:
        for job in jobs.values():
            wait_until(lambda job=job: JobDir(str(state_dir), job.id).exit())
        with Engine(state_dir, settings=settings) as engine:
            for end, job in jobs.items():
                assert end_of(engine.wait(job.id, 30)) == noted(ENDS[end])
    finally:
        second.terminate()
        second.wait(30)


@needs_exit_status
@pytest.mark.parametrize("handles", [True, False])
def test_a_kill_whose_supervisor_was_killed_keeps_its_outcome(tmp_path, inherited, handles):
    """A user who has killed a job would see that its end is not known."""
    late = f"echo asked; until [ -e {tmp_path / 'go'} ]; do sleep 0.01; done; exit 9"
    trap = f"trap '{late}' TERM" if handles else "trap '' TERM"
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(f"{trap}; echo ready; while :; do sleep 0.05; done"))
        pid = leader(engine, job)
        engine.kill(job.id, by="me", grace=600 if handles else 2, wait=0)
        wait_until(lambda: JobDir(str(tmp_path), job.id).kill())
        if handles:  # the signal is sent after that is recorded, and not again
            wait_until(lambda: b"asked" in engine.read_output(job.id))
        adopted(engine, kill_supervisor(engine, inherited))
        (tmp_path / "go").touch()
        inherited(pid)
        ended = engine.wait(job.id, 30)
        assert ended.state is State.KILLED
        assert (ended.exit_code, ended.signal) == ((9, None) if handles else (None, 9))


@needs_exit_status
def test_a_timeout_comes_although_the_supervisor_was_killed(tmp_path, inherited):
    """A job would outlive its timeout, or be shown as lost."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell("echo ready; exec sleep 600", timeout=2))
        pid = leader(engine, job)
        kill_supervisor(engine, inherited)
        inherited(pid)
        ended = engine.wait(job.id, 30)
        assert (ended.state, ended.signal) == (State.TIMED_OUT, signal.SIGTERM)


@pytest.fixture
def loop():
    loop = Loop(FakeClock())
    yield loop
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


@pytest.fixture
def orphan():
    """Return a function that starts a grandchild; it returns the pid and what reaps it."""
    parents = []

    def start(script):
        (told, tell), (go, come) = os.pipe(), os.pipe()
        parent = os.fork()
        if parent == 0:
            child = os.fork()
            if child == 0:
                os.execvp("sh", ["sh", "-c", script])
            os.write(tell, b"%d\n" % child)
            os.read(go, 1)
            os.waitpid(child, 0)
            os.write(tell, b"reaped\n")
            os.read(go, 1)
            os._exit(0)
        parents.append(parent)
        pid = int(os.read(told, 16))

        def reap():
            os.write(come, b"x")
            assert os.read(told, 16) == b"reaped\n"

        stat = procfs.stat(pid)
        return Pid(pid, stat.start_time, "boot", 0.0), reap

    yield start
    for each in parents:
        os.kill(each, signal.SIGKILL)
        os.waitpid(each, 0)


@needs_exit_status
def test_the_status_is_read_before_and_after_the_reaping(orphan):
    """Either a slow or a quick init would make the outcome of jobs unknown."""
    pid, reap = orphan("exit 41")
    pidfd = os.pidfd_open(pid.pid)
    wait_gone(pid.pid)
    assert os.waitstatus_to_exitcode(exit_status.wait_status(pidfd, pid)) == 41
    assert libc.wait_status(pidfd) is None
    reap()
    assert os.waitstatus_to_exitcode(exit_status.wait_status(pidfd, pid)) == 41
    assert procfs.wait_status(pid.pid, pid.start_time) is None
    os.close(pidfd)


def test_a_status_that_we_may_not_read_is_not_taken_for_success(orphan, monkeypatch):
    """/proc reports 0 to a process without the right to trace: failures would look like success."""
    pid, _ = orphan("exit 4")
    wait_gone(pid.pid)

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    assert procfs.wait_status(pid.pid, pid.start_time) == 4 << 8
    assert procfs.wait_status(pid.pid, pid.start_time + 1) is None  # another process
    monkeypatch.setattr(os, "readlink", refused)
    assert procfs.wait_status(pid.pid, pid.start_time) is None


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL, errno.ESRCH])
def test_on_an_older_kernel_the_reason_says_which_one_is_needed(orphan, monkeypatch, number):
    """A user would look for a fault in the job or in worker, although the kernel is too old."""
    pid, _ = orphan("exit 4")
    wait_gone(pid.pid)

    def too_old(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(libc, "wait_status", too_old)
    with pytest.raises(exit_status.UnknownStatusError) as told:
        exit_status.wait_status(-1, pid)
    assert "only Linux 6.15 and later then report an exit status" in str(told.value)
    assert f"(this is {os.uname().release})" in str(told.value)


def test_on_an_older_kernel_an_adopted_job_is_lost(orphan, loop, monkeypatch, tmp_path):
    """It could be shown as running for ever, or with an invented outcome."""
    pid, _ = orphan("read line; exit 4")

    def too_old(_):
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(libc, "wait_status", too_old)
    told = []
    table = JobTable(
        RunDir(str(tmp_path)),
        loop,
        None,
        root_jobs=True,
        emit=told.append,
        watched=lambda: True,
        on_empty=lambda: None,
    )
    directory = JobDir(str(tmp_path), "00000000-0000-4000-8000-000000000000")
    directory.make()
    table.adopt(
        running_job.RunningJob(directory, {}, pid=pid, foreign=True, pidfd=os.pidfd_open(pid.pid))
    )
    os.kill(pid.pid, signal.SIGKILL)
    wait_gone(pid.pid)
    for key, ready in loop._selector.select(10):
        loop._guard(key.data, ready)

    def recorded():
        loop.clock.advance(0.05)
        loop._run_timers()
        return directory.exit()

    end = wait_until(recorded)  # once nothing of it is left
    assert (end.cause, end.exit_code, end.signal) == ("lost", None, None)
    assert "the end could not be observed: the supervisor that started it had ended" in end.reason
    assert "Linux 6.15" in end.reason
    assert [each["event"] for each in told] == ["exited"]
    table.launchers.close()


def test_a_leader_that_is_never_reaped_is_not_waited_for_without_end(orphan, loop, monkeypatch):
    """A job would run for ever below a container's first process that never waits."""
    if not reports_exit_status():
        monkeypatch.setattr(libc, "wait_status", lambda _: None)
    monkeypatch.setattr(procfs, "wait_status", lambda *_: None)
    pid, _ = orphan("exit 4")
    wait_gone(pid.pid)
    reports = []
    watch = exit_status.ExitWatch(loop, lambda _, ending: reports.append(ending))
    watched = running_job.RunningJob(
        JobDir("/nowhere", "id"), {}, pid=pid, pidfd=os.pidfd_open(pid.pid)
    )
    watch.add(watched)
    assert watched.gone
    assert watched.leader is None
    for _ in range(200):
        loop.clock.advance(0.5)
        loop._run_timers()
    [ending] = reports
    assert (ending.status, ending.why, ending.seen) == (None, "nobody has reaped it", False)
    assert watched.pidfd is None


def test_a_reason_says_that_the_time_of_an_end_is_not_known():
    """People would look in the logs of the wrong hour."""
    end = Exit("own", 3, None, "exit code 3", time.time())
    assert outcome.noticed_late(end).reason == f"exit code 3; {NOTE}"
