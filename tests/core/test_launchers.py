"""Launchers: each start is made once, by any of them, and its job outlives the launcher."""

import contextlib
import errno
import marshal
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.core import begin, launcher_pids, run, shell, wait_gone
from support.waiting import wait_until
from worker_core import Engine, Isolation, JobSpec, Limits, State
from worker_core.linux import procfs
from worker_core.supervisor import exec_errors, launcher, launchers, start_message
from worker_core.supervisor.loop import Loop
from worker_core.testing.fakes import FakeClock

MANY = 300


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path / "state") as engine:
        yield engine


def test_many_starts_are_each_begun_once(engine, tmp_path):
    """A job would run twice, or never, because two launchers share the work."""
    runs = tmp_path / "runs"
    spec = shell(f'echo "$WORKER_JOB_ID" >> {runs}')
    jobs = [engine.submit(spec, "me").id for _ in range(MANY)]
    assert all(engine.wait(job_id, 60).state is State.COMPLETED for job_id in jobs)
    assert sorted(runs.read_text().split()) == sorted(jobs)


def test_the_jobs_of_a_dead_launcher_keep_their_exit_codes(engine, tmp_path):
    """The kernel may end a launcher for want of memory: its jobs would be lost."""
    script = f"echo ready; until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit $N"
    kinds = ({}, {"limits": Limits(open_files=50)}, {"isolation": Isolation(pid_namespace=True)})
    jobs = [
        begin(engine, shell(script, env={"N": str(number)}, **kind))
        for number, kind in enumerate(kinds * 2, start=3)
    ]
    killed = begin(engine, shell("echo ready; sleep 600"))
    for pid in launcher_pids(engine.state_dir):
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
    assert run(engine, shell("exit 9")).exit_code == 9
    assert engine.kill(killed.id, by="me").state is State.KILLED
    (tmp_path / "go").touch()
    assert [engine.wait(job.id, 20).exit_code for job in jobs] == [3, 4, 5, 6, 7, 8]


def test_a_large_start_arrives_whole(engine):
    """A job with more arguments than a datagram holds could not be started."""
    args = [f"{number:0100}" for number in range(8000)]  # 800 kB
    job = run(engine, JobSpec("printf", ["%s\n", *args]))
    assert engine.read_output(job.id).decode().split() == args


def test_a_long_reason_arrives_whole(engine):
    """A job whose command is long and not ASCII would neither run nor end for minutes."""
    spec = JobSpec("\N{GRINNING FACE}" * 30_000)
    jobs = [
        engine.submit(spec, "me").id for _ in range(30)
    ]  # many, so that some are forked and others are spawned
    ended = [engine.wait(job_id, 60) for job_id in jobs]
    assert {job.state for job in ended} == {State.FAILED}
    news = ("refused", jobs[0], launcher._truncated(spec.command), 127)
    assert len(marshal.dumps(news)) <= launchers._ROOM


def test_an_upgrade_loses_no_start_that_waits(engine):
    """The supervisor would start no job any more, because starts waited while it was upgraded."""
    run(engine, JobSpec("true"))
    before = launcher_pids(engine.state_dir)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)  # so that starts wait
    jobs = [engine.submit(shell("exit 3"), "me").id for _ in range(60)]
    engine._executor._send({"op": "upgrade"})
    assert {engine.wait(job_id, 60).exit_code for job_id in jobs} == {3}
    assert not set(before) & set(launcher_pids(engine.state_dir))


@pytest.mark.parametrize("groups", ["", "off"])
def test_a_job_that_stops_its_launcher_holds_no_job_up(tmp_path, monkeypatch, groups):
    """A job under the account of workerd could keep all other jobs from ending."""
    monkeypatch.setenv("WORKER_CGROUPS", groups)
    with Engine(tmp_path / "state") as engine:
        others = [
            begin(engine, shell(f"echo ready; until [ -e {tmp_path}/go ]; do sleep 0.01; done"))
            for _ in range(4)
        ]
        assert run(engine, shell("kill -STOP $PPID; exit 3")).exit_code == 3
        (tmp_path / "go").touch()
        assert {engine.wait(job.id, 20).state for job in others} == {State.COMPLETED}
        for pid in launcher_pids(engine.state_dir):  # now while they have nothing to do
            os.kill(pid, signal.SIGSTOP)
            wait_gone(pid)
        assert run(engine, shell("exit 4")).exit_code == 4


@pytest.fixture
def loop():
    loop = Loop(FakeClock())
    yield loop
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


@pytest.fixture
def given(monkeypatch, loop):
    """Launchers whose processes do not exist, so that a test can take the starts."""
    monkeypatch.setattr(launchers.Launchers, "_fork", lambda *_, **__: False)
    given = launchers.Launchers(loop, None, lambda news: None)
    given._handles = {1: None, 2: None}
    yield given
    given._handles = {}
    given.close()


def test_owners_take_turns(given):
    """A user who submits hundreds of jobs at once would delay everybody else's by all of them."""
    for number in range(200):
        given.give(f"first {number}", {"command": "true"}, "first")
    given.give("second", {"command": "true"}, "second")
    order = []
    while given._given:
        start = start_message.receive(given._take)
        order.append(start.job_id)
        given._hear(("refused", start.job_id, "it is only a test", None))
    assert len(order) == 201
    assert order.index("second") <= 2 * launchers._AHEAD + 1


def test_starts_that_are_taken_back_keep_their_turns(given):
    """A job whose start was taken back for a moment would wait behind those that came later."""
    jobs = [f"{owner} {number}" for number in range(5) for owner in "ab"]
    for job_id in jobs:
        given.give(job_id, {"command": "true"}, job_id[0])
    assert given.take_all_back() == set(jobs)
    assert given.take_back("a 1")
    assert not given.take_back("a 1")
    jobs.remove("a 1")
    order = []
    given._pump()
    while given._given:
        start = start_message.receive(given._take)
        order.append(start.job_id)
        given._hear(("refused", start.job_id, "it is only a test", None))
    assert order == ["a 0", "b 0", "a 2", "b 1", "a 3", "b 2", "a 4", "b 3", "b 4"]


def test_a_launcher_that_cannot_be_heard_is_ended(given, loop):
    """The supervisor would try to read its reports for ever, and do nothing else."""
    deaf, other = socket.socketpair()

    class Deaf:
        fileno = staticmethod(deaf.fileno)
        close = staticmethod(deaf.close)

        def recv(self, *_):
            raise OSError(errno.EIO, "Input/output error")

    child = subprocess.Popen(["sleep", "600"])
    handle = launchers._Handle(child.pid, Deaf(), given._slots.take())
    given._handles = {child.pid: handle}
    loop.watch(deaf.fileno(), selectors.EVENT_READ, lambda _: None)
    given._ready(handle)
    assert child.wait(20) == -signal.SIGKILL
    assert deaf.fileno() not in loop._selector.get_map()
    assert given.bury(child.pid) is not None  # and does not end a process that was reaped
    other.close()


def opened(pid):
    """Return what each descriptor of a process leads to."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was closed in this moment
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return found


def has_only_its_own(pid):
    """Return whether an idle launcher has only the descriptors that it needs."""
    links = opened(pid)
    files = {Path(each).name for fd, each in links.items() if "/" in each and fd > 2}
    # The shared socket with starts, its own to the supervisor, and the one into the bag.
    sockets = sum(each.startswith("socket:") for each in links.values())
    return files <= {"supervisor.log", "supervisor.births", "null"} and sockets == 3


def test_a_launcher_keeps_no_descriptor_of_the_supervisor(engine):
    """A lock or a connection in a launcher would outlive the supervisor."""
    job = begin(engine, shell("echo ready; sleep 600"))
    for pid in launcher_pids(engine.state_dir):
        wait_until(lambda pid=pid: has_only_its_own(pid), message=lambda pid=pid: str(opened(pid)))
    engine.kill(job.id, now=True)


def test_a_launcher_is_not_taken_for_a_supervisor(engine):
    """`pkill -f worker_core.supervisor` would end launchers, and `ps` show three supervisors."""
    run(engine, JobSpec("true"))
    for pid in launcher_pids(engine.state_dir):
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert shown.rstrip(b"\0") == b"worker: launcher of jobs"


def test_launchers_end_with_the_supervisor(tmp_path):
    """Each engine that was ever opened would leave processes behind."""
    with Engine(tmp_path / "state") as engine:
        run(engine, JobSpec("true"))
        pids = launcher_pids(engine.state_dir)
    assert len(pids) >= 2
    for pid in pids:
        wait_gone(pid)


def test_a_path_that_is_too_long_is_refused_without_a_look(engine, monkeypatch):
    """A PATH of 4 MB would keep a launcher busy for minutes."""
    path = ":".join(f"/n/{number:08}" for number in range(300_000))
    monkeypatch.setattr(os, "stat", None)
    with pytest.raises(exec_errors.NotStartedError, match="argument list too long: PATH has 3"):
        exec_errors.choose("tool", {"PATH": path}, "/")
    monkeypatch.undo()
    longest = ":".join(f"/{number}" for number in range(20_000))  # what a spec may have
    for kind in ({}, {"limits": Limits(open_files=50)}):
        job = run(engine, JobSpec("no-such-tool", env={"PATH": longest}, **kind))
        assert job.reason == "no-such-tool: command not found"


def test_each_place_of_a_path_is_looked_at_once(monkeypatch):
    """A PATH with the same directory ten thousand times would cost ten thousand looks."""
    looks = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: looks.append(path) or real(path, **more))
    path = ":".join(["/nowhere"] * 10_000)
    with pytest.raises(FileNotFoundError):
        exec_errors.choose("tool", {"PATH": path}, "/")
    assert looks == ["/nowhere/tool"]


def test_what_is_found_in_a_path_is_what_a_shell_finds(engine, tmp_path):
    """Another file than in a shell would run: one that cannot be executed, or a directory."""
    for name in "abcd":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "tool").mkdir()
    (tmp_path / "b" / "tool").write_text("#!/bin/sh\necho b\n")
    (tmp_path / "c" / "tool").write_text('#!/bin/sh\necho c "$0"\n')
    (tmp_path / "c" / "tool").chmod(0o755)
    for kind in ({}, {"limits": Limits(open_files=50)}):
        spec = JobSpec("tool", env={"PATH": "d:a:b:c"}, cwd=str(tmp_path), **kind)
        job = run(engine, spec)
        assert engine.read_output(job.id) == b"c c/tool\n"
        job = run(engine, JobSpec("tool", env={"PATH": "d:b"}, cwd=str(tmp_path), **kind))
        assert job.reason == "tool: permission denied (not executable)"


@pytest.mark.parametrize("kind", [{}, {"limits": Limits(open_files=50)}])
def test_a_script_that_becomes_a_fifo_is_not_waited_for(engine, tmp_path, monkeypatch, kind):
    """Whoever swaps a FIFO for a script whose interpreter is missing would stop the server."""
    script = tmp_path / "script"
    swap = (
        "import os, sys\n"
        "while True:\n"
        "    with open(sys.argv[1] + '.new', 'w') as file: file.write('#!/no/such/interpreter')\n"
        "    os.chmod(sys.argv[1] + '.new', 0o755)\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "    os.mkfifo(sys.argv[1] + '.new', 0o755)\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
    )
    swapper = subprocess.Popen([sys.executable, "-c", swap, str(script)])
    try:
        wait_until(script.exists)
        for _ in range(30):
            job = run(engine, JobSpec(str(script), **kind))
            assert job.state is State.FAILED
            assert job.started_at is None
    finally:
        swapper.kill()
        swapper.wait()


def test_a_fifo_in_place_of_a_jobs_files_is_not_waited_for(engine, tmp_path):
    """A job could stop the server with a FIFO in place of its output."""
    job = begin(engine, shell("echo ready; sleep 600", output_limit=1 << 20))
    folder = engine.output_info(job.id).path.parent
    for name in ("output", "kill.json", "start.json", "exit.json", "pid.json"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    assert engine.kill(job.id, by="me").state is State.KILLED
    assert run(engine, JobSpec("true")).state is State.COMPLETED


def test_the_diagnosis_opens_no_fifo(tmp_path):
    """The look into a script that cannot be executed would wait for a writer."""
    os.mkfifo(tmp_path / "fifo", 0o755)
    error = OSError(2, "No such file or directory")
    found = exec_errors.diagnose(error, "./fifo", {"PATH": ""}, str(tmp_path))
    assert str(found) == "./fifo: not a file that can be executed"
    # It may become one between two looks.
    assert exec_errors._interpreters(str(tmp_path / "fifo")) == []

    assert procfs.has_executed(os.getpid())
