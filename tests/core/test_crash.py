"""After a kill of any process at any moment, no accepted job is lost, run twice or misreported."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from support import crashing
from support.core import (
    Sleepers,
    begin,
    launcher_pids,
    marked,
    run,
    shell,
    supervisor_pid,
    wait_gone,
    waiting_for,
)
from support.kernel import reports_exit_status
from support.waiting import wait_until
from worker_core import (
    Engine,
    EngineSettings,
    ExecutorUnavailable,
    JobSpec,
    State,
    failpoints,
    wire,
)
from worker_core.disk import statedir
from worker_core.disk.jobdir import JobDir
from worker_core.linux import procfs

VISITS = {  # which visits of a point are the last one; a commit may be of any record
    "engine.before_commit": (1, 2, 4, 7),
    "engine.after_commit": (1, 2, 4, 7),
    "engine.after_kill_sent": (1,),
    "launcher.taken": (1, 2),  # one of two launchers has at least two of four jobs
    "launcher.forked": (1, 2),
    "launcher.reaped": (1, 2),
    "supervisor.kill_written": (1,),
    "supervisor.kill_sent": (1,),
}
POINTS = [f"{point}:{nth}" for point in failpoints.POINTS for nth in VISITS.get(point, (1, 3))]
ENGINE_POINTS = [point for point in POINTS if point.startswith("engine.")]
LAUNCHER_POINTS = [point for point in POINTS if point.startswith("launcher.")]
SUPERVISOR_POINTS = [point for point in POINTS if point.startswith("supervisor.")]


def gone(engine):
    """SIGKILL the supervisor of an engine, and wait until it is gone."""
    pid = supervisor_pid(engine.state_dir)
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)


def upgrade(engine):
    """Have the supervisor of an engine execute itself anew."""
    engine._executor._send({"op": "upgrade"})


@pytest.mark.parametrize("point", ENGINE_POINTS)
def test_the_engine_may_die_at_every_point(tmp_path, point):
    """A restart of the daemon would lose jobs, run them twice, or invent their ends."""
    program = crashing.start(tmp_path / "state", WORKER_CRASH_AT=point)
    promised = crashing.acknowledged(program)
    assert program.returncode == -signal.SIGKILL, "the point was not visited"
    (tmp_path / "runs").touch()
    crashing.check(tmp_path / "state", promised)


@pytest.mark.parametrize("point", SUPERVISOR_POINTS)
def test_the_supervisor_may_die_at_every_point(tmp_path, point):
    """The end of a supervisor would hang its jobs, run them twice, or invent their ends."""
    program = crashing.start(tmp_path / "state", WORKER_CRASH_AT=point)
    promised = crashing.acknowledged(program, timeout=60)
    assert program.returncode == 0
    assert len(promised) == len(crashing.KINDS)
    crashing.check(tmp_path / "state", promised, may_be_lost=True)


def test_a_job_that_was_claimed_and_not_forked_is_started_by_the_next_supervisor(tmp_path):
    """It would be lost, although it has certainly never run."""
    program = crashing.start(tmp_path / "state", WORKER_CRASH_AT="supervisor.claimed:1")
    promised = crashing.acknowledged(program, timeout=60)
    assert program.returncode == 0
    crashing.check(tmp_path / "state", promised)


@pytest.mark.parametrize("point", LAUNCHER_POINTS)
def test_a_launcher_may_die_at_every_point(tmp_path, point):
    """The end of a launcher would lose its jobs, run one twice, or cost an exit code."""
    program = crashing.start(tmp_path / "state", WORKER_CRASH_AT=point)
    promised = crashing.acknowledged(program, timeout=60)
    assert program.returncode == 0
    assert len(promised) == len(crashing.KINDS)
    log = (tmp_path / "state" / "supervisor.log").read_text()
    assert f"has ended: {-signal.SIGKILL}" in log, "the point was not visited"
    crashing.check(tmp_path / "state", promised)


def test_launchers_may_die_at_any_instant(tmp_path):
    """Between the points that have names there could be one that loses a job or an exit code."""
    (tmp_path / "runs").touch()
    program = crashing.start(tmp_path / "state", rounds=12)
    numbers = random.Random(9)
    killed = 0
    while program.poll() is None:
        supervisor = supervisor_pid(str(tmp_path / "state"))
        for pid in launcher_pids(str(tmp_path / "state")) if supervisor else ():
            if numbers.random() < 0.3:
                os.kill(pid, signal.SIGKILL)
                killed += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(numbers.uniform(0.02, 0.1))
    assert killed > 3
    crashing.check(tmp_path / "state", crashing.acknowledged(program))


def test_the_engine_may_die_at_any_instant(tmp_path):
    """Between the points that have names there could be one that loses a job."""
    numbers = random.Random(7)
    (tmp_path / "runs").touch()
    for _ in range(5):
        program = crashing.start(tmp_path / "state", rounds=50)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(numbers.uniform(0.3, 0.8))
        program.kill()
        crashing.check(tmp_path / "state", crashing.acknowledged(program))


def test_engine_and_supervisor_may_die_at_any_instant(tmp_path):
    """The death of both at once, by the kernel's hand for instance, would cost more than ends."""
    numbers = random.Random(8)
    (tmp_path / "runs").touch()
    for _ in range(5):
        program = crashing.start(tmp_path / "state", rounds=50)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(numbers.uniform(0.3, 0.8))
        doomed = [program.pid, supervisor_pid(str(tmp_path / "state"))]
        numbers.shuffle(doomed)
        for pid in filter(None, doomed):
            os.kill(pid, signal.SIGKILL)
        promised = crashing.acknowledged(program)
        crashing.check(tmp_path / "state", promised, may_be_lost=True)


def test_what_ended_while_nobody_was_there_has_its_true_end(tmp_path):
    """A job that ends during an upgrade of the daemon would be lost."""
    with Engine(tmp_path) as engine:
        scripts = ("exit 0", "exit 7", "kill -SEGV $$")
        head = waiting_for(tmp_path / "go") + "; echo end; "
        jobs = {script: begin(engine, shell(head + script)).id for script in scripts}
    (tmp_path / "go").touch()
    for job_id in jobs.values():
        wait_until(lambda job_id=job_id: JobDir(str(tmp_path), job_id).exit())
    with Engine(tmp_path) as engine:
        ends = {script: engine.wait(job_id, 10) for script, job_id in jobs.items()}
        assert all(engine.read_output(job.id) == b"ready\nend\n" for job in ends.values())
    assert [(job.exit_code, job.signal) for job in ends.values()] == [
        (0, None),
        (7, None),
        (None, 11),
    ]
    assert all(job.usage is not None and job.ended_at for job in ends.values())


def test_running_jobs_go_on_and_are_followed_again(tmp_path):
    """A restart of the daemon would end the jobs, or no longer see what they do."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell("echo ready; read -r line; echo end; exit 4", stdin=b""))
        slow = begin(engine, shell(waiting_for(tmp_path / "go")))
    with Engine(tmp_path) as engine:
        assert engine.get(slow.id).state is State.RUNNING
        follower = engine.follow(slow.id)
        assert next(follower) == b"ready\n"
        (tmp_path / "go").touch()
        assert list(follower) == []
        assert engine.get(slow.id).state is State.COMPLETED
        assert engine.wait(job.id, 10).exit_code == 4


def test_a_timeout_comes_while_nobody_is_there(tmp_path):
    """A job could use a restart to outlive its time."""
    sleepers = Sleepers()
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(f"echo ready; {sleepers} & wait", timeout=2))
    sleepers.wait(0)
    with Engine(tmp_path) as engine:
        assert engine.wait(job.id, 10).state is State.TIMED_OUT


def test_without_a_supervisor_jobs_go_on_and_can_be_ended(tmp_path):
    """The end of a supervisor would orphan its jobs, or an end be invented for them."""
    sleepers = Sleepers()
    with Engine(tmp_path) as engine:
        stays = begin(engine, shell(waiting_for(tmp_path / "go") + "; echo end"))
        killed = begin(engine, shell(f"(setsid env -i {sleepers} &); echo ready; sleep 600"))
        sleepers.wait(1)
        gone(engine)
        assert run(engine, shell("exit 5")).exit_code == 5  # by another supervisor
        assert engine.get(stays.id).state is State.RUNNING
        job = engine.kill(killed.id, by="me")
        assert job.state is (State.KILLED if reports_exit_status() else State.LOST)
        assert sleepers.count() == 0
        (tmp_path / "go").touch()
        job = engine.wait(stays.id, 10)
        if reports_exit_status():
            assert (job.state, job.exit_code, job.signal) == (State.COMPLETED, 0, None)
        else:
            assert (job.state, job.exit_code, job.signal) == (State.LOST, None, None)
            assert "the supervisor that started it had ended" in job.reason
        assert engine.read_output(stays.id) == b"ready\nend\n"


def test_a_kill_is_carried_on_by_the_next_supervisor(tmp_path):
    """A job that ignores TERM would survive the end of the supervisor that waits for it."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"))
        engine.kill(job.id, by="me", grace=3, wait=0)
        wait_until(lambda: JobDir(str(tmp_path), job.id).kill())
        gone(engine)
        known = State.KILLED if reports_exit_status() else State.LOST
        assert engine.wait(job.id, 20).state is known
        assert marked(job.id) == []


TELLS = "; ".join(f"trap 'echo {name}' {name}" for name in ("INT", "TERM", "WINCH"))
TELLING = f"{TELLS}; echo ready; while :; do sleep 0.01; done"


def heard(engine, job):
    """Return which signals a job that runs TELLING has got; one more is sent to be sure of all."""
    wait_until(lambda: engine.health()["supervisor"] == "ok")
    engine.signal(job.id, "WINCH")
    wait_until(lambda: b"WINCH" in engine.read_output(job.id))
    words = engine.read_output(job.id).split()  # the shell says "Terminated" of its child
    return [each for each in words if each in (b"INT", b"TERM")]


@pytest.mark.parametrize("of", ["engine", "supervisor", "upgrade"])
def test_a_stop_that_is_under_way_is_not_repeated(tmp_path, of):
    """A restart of the daemon would be the second Ctrl-C, with which many programs give up."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(TELLING))
        asked = engine.kill(job.id, signal="INT", grace=600, wait=0)
        wait_until(lambda: b"INT" in engine.read_output(job.id))
        before = JobDir(str(tmp_path), job.id).kill()
        if of == "supervisor":
            gone(engine)
        elif of == "upgrade":
            upgrade(engine)
    with Engine(tmp_path) as engine:
        assert engine.get(job.id).state is asked.state is State.STOPPING
        assert heard(engine, job) == [b"INT"]
        assert JobDir(str(tmp_path), job.id).kill() == before
        assert engine.kill(job.id, now=True).state is State.KILLED


@pytest.mark.parametrize("supervisor", [gone, upgrade])
def test_a_timeout_that_is_under_way_is_not_repeated(tmp_path, supervisor):
    """A job that is shutting down would get the stop signal again and again."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(TELLING, timeout=2, stop_grace=600))
        wait_until(lambda: b"TERM" in engine.read_output(job.id))
        before = JobDir(str(tmp_path), job.id).kill()
        supervisor(engine)
        assert heard(engine, job) == [b"TERM"]
        assert JobDir(str(tmp_path), job.id).kill() == before
        assert engine.kill(job.id, now=True).state is State.TIMED_OUT


def test_a_stop_that_did_not_arrive_is_sent_again_as_it_was(tmp_path):
    """A job would get another signal, and be ended by force before its time."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(TELLING))
        supervisor = supervisor_pid(engine.state_dir)
        os.kill(supervisor, signal.SIGSTOP)
        engine.kill(job.id, signal="INT", grace=600, wait=0)
    os.kill(supervisor, signal.SIGKILL)
    wait_gone(supervisor)
    with Engine(tmp_path) as engine:
        assert heard(engine, job) == [b"INT"]
        kill = JobDir(str(tmp_path), job.id).kill()
        assert (kill.signalled, kill.kill_at > time.time() + 500) == ([signal.SIGINT], True)
        assert engine.kill(job.id, now=True).state is State.KILLED


@pytest.mark.parametrize("harder", [{"now": True}, {"signal": "QUIT"}, {"grace": 0.1}])
def test_a_harder_kill_that_did_not_arrive_is_sent_again(tmp_path, harder):
    """A job would keep its long grace although a second kill has shortened it."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(TELLING, stop_signal="INT", stop_grace=600))
        engine.kill(job.id, wait=0)
        wait_until(lambda: b"INT" in engine.read_output(job.id))
        supervisor = supervisor_pid(engine.state_dir)
        os.kill(supervisor, signal.SIGSTOP)
        engine.kill(job.id, wait=0, **harder)
        os.kill(supervisor, signal.SIGKILL)
        wait_gone(supervisor)
        assert engine.wait(job.id, 30).state is State.KILLED


def test_a_kill_that_reaches_a_supervisor_on_its_way_to_execute_itself_is_not_lost(tmp_path):
    """`kill --now` during an upgrade of the package would do nothing until the grace is over."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(TELLING))
        engine.kill(job.id, signal="INT", grace=600, wait=0)
        wait_until(lambda: b"INT" in engine.read_output(job.id))
        supervisor = supervisor_pid(engine.state_dir)
        upgrade(engine)
        os.kill(supervisor, signal.SIGSTOP)
        engine.kill(job.id, now=True, wait=0)
        os.kill(supervisor, signal.SIGCONT)
        assert engine.wait(job.id, 30).state is State.KILLED


def test_a_supervisor_of_an_older_protocol_is_upgraded_in_place(tmp_path, monkeypatch):
    """An upgrade of the package would lose the exit codes of running jobs."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(waiting_for(tmp_path / "go") + "; exit 9"))
        doomed = begin(engine, shell("echo ready; sleep 600", timeout=600))
        before = supervisor_pid(engine.state_dir)
    hellos = []
    decode = wire.Decoder.feed

    def older_at_first(self, data):
        messages = decode(self, data)
        for each in messages:
            if "hello" in each:
                hellos.append(each)
                if len(hellos) == 1:
                    each["protocol"] = wire.PROTOCOL - 1
        return messages

    monkeypatch.setattr(wire.Decoder, "feed", older_at_first)
    with Engine(tmp_path) as engine:
        assert len(hellos) >= 2
        # In the middle of execve(2) a process has no command line.
        wait_until(lambda: supervisor_pid(engine.state_dir) == before)
        assert engine.kill(doomed.id, by="me").state is State.KILLED
        (tmp_path / "go").touch()
        assert engine.wait(job.id, 10).exit_code == 9


def test_a_supervisor_of_an_older_revision_is_upgraded_once_and_then_used(tmp_path, monkeypatch):
    """After an upgrade, a supervisor that cannot be replaced would be asked for that for ever."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(waiting_for(tmp_path / "go") + "; exit 9"))
        before = supervisor_pid(engine.state_dir)
    hellos = []
    decode = wire.Decoder.feed

    def older(self, data):
        messages = decode(self, data)
        hellos.extend(each for each in messages if each.pop("revision", None) is not None)
        return messages

    monkeypatch.setattr(wire.Decoder, "feed", older)
    with Engine(tmp_path) as engine:
        assert len(hellos) in (2, 3)  # a second one of the old program, which is about to end
        # In the middle of execve(2) a process has no command line.
        wait_until(lambda: supervisor_pid(engine.state_dir) == before)
        (tmp_path / "go").touch()
        assert engine.wait(job.id, 10).exit_code == 9


def test_a_supervisor_of_a_later_protocol_is_left_alone(tmp_path, monkeypatch):
    """An old release would talk to a new supervisor in words that mean something else now."""
    theirs = wire.PROTOCOL
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(waiting_for(tmp_path / "go") + "; exit 9"))
        monkeypatch.setattr(wire, "PROTOCOL", 0)
    with pytest.raises(
        ExecutorUnavailable, match=f"protocol {theirs} and this release 0; install the later"
    ):
        Engine(tmp_path)
    monkeypatch.undo()
    (tmp_path / "go").touch()
    with Engine(tmp_path) as engine:
        assert engine.wait(job.id, 10).exit_code == 9


def test_jobs_of_another_boot_are_lost(tmp_path):
    """After a reboot a job would be `running` for ever, or its pid taken for another's."""
    sleepers = Sleepers()
    with Engine(tmp_path, settings=EngineSettings(max_running=1)) as engine:
        job = begin(engine, shell(f"echo ready; exec {sleepers}"))
        waiting = engine.submit(JobSpec("true"), "me")
        supervisor = supervisor_pid(engine.state_dir)
    os.kill(supervisor, signal.SIGKILL)
    wait_gone(supervisor)
    path = tmp_path / "jobs" / job.id / "pid.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "another"}))
    with sqlite3.connect(tmp_path / "worker.db") as db:
        db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")
    db.close()
    with Engine(tmp_path) as engine:
        lost = engine.wait(job.id, 10)
        assert lost.state is State.LOST
        assert "the machine was restarted" in lost.reason
        assert engine.wait(waiting.id, 10).state is State.COMPLETED  # it had not begun
    assert sleepers.count() == 0


def test_a_start_that_a_crash_of_the_machine_may_have_swallowed_is_not_repeated(tmp_path):
    """After a power failure a job could run a second time."""
    with Engine(tmp_path) as engine:
        job = run(engine, JobSpec("true"))
    with sqlite3.connect(tmp_path / "worker.db") as db:
        db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")
        db.execute("UPDATE jobs SET state = 'running', ended_at = NULL, started_at = NULL")
    db.close()
    for file in (tmp_path / "jobs" / job.id).iterdir():
        file.unlink()
    with Engine(tmp_path) as engine:
        assert engine.wait(job.id, 10).state is State.LOST


def test_a_reused_pid_is_never_signalled(tmp_path):
    """A kill after a crash would hit another process that has the pid now."""
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        with Engine(tmp_path) as engine:
            job = begin(engine, shell("echo ready; exec sleep 600"))
            supervisor, pid = supervisor_pid(engine.state_dir), job.pid
        os.kill(supervisor, signal.SIGKILL)
        wait_gone(supervisor)
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        path = tmp_path / "jobs" / job.id / "pid.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": stranger.pid}))
        with Engine(tmp_path) as engine:
            assert engine.wait(job.id, 10).state is State.LOST
        assert stranger.poll() is None
        assert procfs.stat(stranger.pid).state != "Z"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_job_without_a_recorded_pid_is_found_by_its_mark(tmp_path):
    """A supervisor that dies right after a fork would leave a process that nothing tracks."""
    sleepers = Sleepers()
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(f"echo ready; exec {sleepers}"))
        supervisor = supervisor_pid(engine.state_dir)
    os.kill(supervisor, signal.SIGKILL)
    wait_gone(supervisor)
    (tmp_path / "jobs" / job.id / "pid.json").write_text('{"pid": 1')  # cut short
    with Engine(tmp_path) as engine:
        assert engine.get(job.id).state is State.RUNNING
        engine.kill(job.id, by="me")
    assert sleepers.count() == 0


def test_queued_jobs_wait_on_after_a_restart_in_their_order(tmp_path):
    """A restart would forget queued jobs, or start all of them at once."""
    settings = EngineSettings(max_running=1)
    with Engine(tmp_path, settings=settings) as engine:
        first = begin(engine, shell("echo ready; sleep 600"))
        queued = [engine.submit(shell(f"echo {n} >> {tmp_path}/order"), "me") for n in range(3)]
    with Engine(tmp_path, settings=settings) as engine:
        assert [engine.get(job.id).state for job in queued] == [State.QUEUED] * 3
        assert "1 of 1 running" in engine.get(queued[0].id).reason
        engine.kill(first.id, by="me")
        for job in queued:
            assert engine.wait(job.id, 10).state is State.COMPLETED
    assert (tmp_path / "order").read_text().split() == ["0", "1", "2"]


def test_a_state_directory_may_have_a_long_name(tmp_path):
    """A socket's path is at most 107 bytes: a deep directory would not work."""
    deep = tmp_path.joinpath(*["x" * 100] * 4)
    deep.mkdir(parents=True)
    with Engine(deep / "state") as engine:
        assert run(engine, JobSpec("true")).state is State.COMPLETED


def test_a_supervisor_leaves_when_nobody_needs_it(tmp_path):
    """Each engine that was ever opened would leave a process behind."""
    with Engine(tmp_path) as engine:
        run(engine, JobSpec("true"))
        pid = supervisor_pid(engine.state_dir)
    wait_gone(pid)


def test_sigterm_to_the_supervisor_waits_for_its_jobs(tmp_path):
    """A careless `kill` would cost the exit codes of running jobs."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(waiting_for(tmp_path / "go") + "; exit 6"))
        pid = supervisor_pid(engine.state_dir)
        os.kill(pid, signal.SIGTERM)
        log = tmp_path / "supervisor.log"
        wait_until(lambda: "SIGTERM" in log.read_text())
        assert engine.get(job.id).state is State.RUNNING
        (tmp_path / "go").touch()
        assert engine.wait(job.id, 10).exit_code == 6
        wait_gone(pid)
        assert run(engine, JobSpec("true")).state is State.COMPLETED  # by another one


def test_an_ephemeral_engine_leaves_nothing_however_it_ends():
    """A program that uses the library would leave jobs, a supervisor and files behind."""
    sleepers = Sleepers()
    script = (
        "import sys, time; from worker_core import Engine, JobSpec; engine = Engine(); "
        f"engine.submit(JobSpec('sh', ['-c', '(setsid env -i {sleepers} &); {sleepers}']), 'me'); "
        "print(engine.state_dir, flush=True); time.sleep(600)"
    )
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    state_dir = program.stdout.readline().strip()
    sleepers.wait(2)
    program.kill()
    program.communicate()
    sleepers.wait(0)
    wait_until(lambda: not os.path.exists(state_dir))
    wait_until(lambda: supervisor_pid(state_dir) is None)


def test_what_a_crash_left_of_a_removal_is_removed(tmp_path, monkeypatch):
    """Each crash between a record's removal and that of its output would cost disk for ever."""
    with Engine(tmp_path) as engine:
        job = run(engine, shell("echo x"))
        with monkeypatch.context() as crashing:
            crashing.setattr(JobDir, "remove", lambda _: None)
            engine.remove(job.id)
    assert (tmp_path / "jobs" / job.id / "output").exists()
    with Engine(tmp_path):
        wait_until(lambda: not (tmp_path / "jobs" / job.id).exists())
    assert not (tmp_path / "set-aside").exists()


def test_a_lock_that_a_dying_engine_still_holds_is_waited_for(tmp_path, monkeypatch):
    """A service that is started again right after a crash would refuse to start."""
    with Engine(tmp_path):
        pass
    lock = tmp_path / "engine.lock"
    holder = subprocess.Popen(["flock", lock, "cat"], stdin=subprocess.PIPE)
    locked = ["flock", "--nonblock", lock, "true"]
    wait_until(lambda: subprocess.run(locked, check=False).returncode)
    waited = []

    def let_go(seconds):
        waited.append(seconds)
        holder.communicate()

    monkeypatch.setattr(statedir, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=let_go))
    with Engine(tmp_path) as engine:
        assert run(engine, JobSpec("true")).state is State.COMPLETED
    assert len(waited) == 1
