"""The start of a job: its surroundings are clean, and what cannot start says why."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.core import run, shell
from worker_core import Engine, JobSpec, State
from worker_core.supervisor import identity


@pytest.fixture(scope="module", params=["forked into a cgroup", "spawned"])
def engine(request):
    """An engine for each of the two ways to start a job, where there are cgroups at all."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SECRET_OF_THE_DAEMON", "x")
    if request.param == "spawned":
        patch.setenv("WORKER_CGROUPS", "off")
    patch.setenv("LANG", "C.UTF-8")
    patch.setenv("TZ", "Etc/GMT-3")
    with Engine() as engine:
        patch.undo()
        yield engine


def output(engine, spec):
    job = run(engine, spec)
    assert job.state is State.COMPLETED, job
    return engine.read_output(job.id)


def test_the_environment_is_clean(engine):
    """Secrets of the daemon would be readable in every job."""
    job = run(engine, JobSpec("env", env={"MINE": "a=b", "LANG": "C"}))
    lines = engine.read_output(job.id).decode().splitlines()
    env = dict(line.split("=", 1) for line in lines)
    assert set(env) == {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "WORKER_JOB_ID",
        "MINE",
    }
    assert env["WORKER_JOB_ID"] == job.id
    assert (env["MINE"], env["LANG"], env["TZ"]) == ("a=b", "C", "Etc/GMT-3")


def test_no_descriptor_is_inherited(engine):
    """A job could write into the files of the supervisor."""
    show = "import os; print(*(f'{fd} {os.readlink(f\"/proc/self/fd/{fd}\")}' for fd in range(99)"
    show += " if os.path.exists(f'/proc/self/fd/{fd}')), sep='\\n')"
    lines = output(engine, JobSpec("python3", ["-c", show])).decode().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert lines[0] == "0 /dev/null"
    assert lines[1].endswith("/output")


def test_signals_have_their_default(engine):
    """A job would ignore SIGPIPE or SIGINT because the supervisor does."""
    ignored = output(engine, JobSpec("grep", ["-E", "^Sig(Blk|Ign)", "/proc/self/status"]))
    assert [int(line.split()[1], 16) for line in ignored.splitlines()] == [0, 0]


def test_the_leader_has_its_own_session_and_no_terminal(engine):
    """A signal to the daemon's group would hit the jobs."""
    fields = output(engine, shell("cat /proc/$$/stat")).split()
    pid, group, session, terminal = fields[0], *fields[4:7]
    assert pid == session == group
    assert terminal == b"0"


def test_the_directory_and_the_mask_are_those_of_a_login(engine):
    """Files would be made where nobody looks, or unreadable."""
    home = identity.own().home
    assert output(engine, shell("pwd; umask")).split() == [
        home.encode() if os.path.isdir(home) else b"/",
        b"0022",
    ]
    assert output(engine, JobSpec("pwd", cwd="/usr")) == b"/usr\n"


def test_input_comes_from_nowhere_from_bytes_or_from_a_file(engine, tmp_path):
    """A job would wait for input that never comes, or get another one."""
    data = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(data)
    assert output(engine, JobSpec("cat")) == b""
    assert output(engine, JobSpec("cat", stdin=data)) == data
    assert output(engine, JobSpec("cat", stdin=b"")) == b""
    assert output(engine, JobSpec("cat", stdin=tmp_path / "file")) == data
    job = run(engine, JobSpec("cat", stdin=tmp_path / "missing"))
    assert job.reason == f"stdin: {tmp_path}/missing: No such file or directory"


def test_a_relative_path_of_the_input_is_that_of_the_caller(engine, tmp_path, monkeypatch):
    """The job would be told that a file is missing which is there."""
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert output(engine, JobSpec("cat", stdin=Path("file"))) == b"x"


def test_input_that_cannot_be_opened_now_holds_nobody_up(engine, tmp_path):
    """A FIFO that nobody writes to would stop all jobs of the server."""
    os.mkfifo(tmp_path / "fifo")
    job = run(engine, JobSpec("cat", stdin=tmp_path / "fifo"))
    assert (job.state, job.started_at) == (State.FAILED, None)
    assert job.reason == f"stdin: {tmp_path}/fifo: is a FIFO; only a file can be read"
    assert output(engine, JobSpec("head", ["-c", "3"], stdin=Path("/dev/zero"))) == b"\0\0\0"


def test_every_byte_of_an_argument_arrives(engine):
    """A file name that is no UTF-8 could not be given to a job."""
    raw = os.fsdecode(bytes(range(1, 256)))
    assert output(engine, JobSpec("printf", ["%s", raw])) == bytes(range(1, 256))
    assert output(engine, JobSpec("sh", ["-c", 'printf %s "$X"'], env={"X": raw})) == bytes(
        range(1, 256)
    )


def test_no_shell_reads_the_arguments(engine):
    """An argument with a semicolon would run a command."""
    assert output(engine, JobSpec("echo", ["$HOME; id", "*", "a  b"])) == b"$HOME; id * a  b\n"


def scripts(folder):
    """Make files that cannot be executed, each for another reason."""
    for name, content, mode in (
        ("plain", b"echo x\n", 0o755),
        ("noexec", b"#!/bin/sh\n", 0o644),
        ("badint", b"#!/no/such/interpreter -x\n", 0o755),
        ("empty", b"", 0o755),
        ("windows", b"#!/bin/sh\r\necho x\r\n", 0o755),
        ("nested", f"#!{folder}/badint\n".encode(), 0o755),
        ("noexecint", f"#!{folder}/noexec\n".encode(), 0o755),
        ("dirint", f"#! {folder}\n".encode(), 0o755),
    ):
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode)
    (folder / "dangling").symlink_to("nowhere")
    (folder / "dir").mkdir()


@pytest.mark.parametrize(
    ("command", "options", "reason", "exit_code"),
    [
        ("echi", {}, "echi: command not found", 127),
        ("./echi", {}, "./echi: no such file or directory", 127),
        ("./dangling", {}, "./dangling: no such file or directory (a dangling link)", 126),
        ("./noexec", {}, "./noexec: permission denied (not executable)", 126),
        ("./dir", {}, "./dir: is a directory", 126),
        ("./badint", {},
         "./badint: bad interpreter: /no/such/interpreter: no such file or directory", 126),
        ("badint", {"env": {"PATH": "."}},
         "badint: bad interpreter: /no/such/interpreter: no such file or directory", 126),
        ("./windows", {},
         "./windows: bad interpreter: /bin/sh\\r: no such file or directory (the first line ends w",
         126),
        ("./nested", {},
         "./nested: bad interpreter: /no/such/interpreter: no such file or directory", 126),
        ("./noexecint", {},
         "./noexecint: bad interpreter: {cwd}/noexec: permission denied (not executable)", 126),
        ("./dirint", {},
         "./dirint: bad interpreter: {cwd}: permission denied (not executable)", 126),
        ("./plain", {}, "./plain: exec format error", 126),
        ("./empty", {}, "./empty: exec format error", 126),
        ("ls", {"cwd": "/no/such/place"},
         "cannot change to working directory /no/such/place: No such file or directory", 126),
        ("ls", {"cwd": "/etc/passwd"},
         "cannot change to working directory /etc/passwd: Not a directory", 126),
        ("echo", {"args": ["a", "b\0c"]}, "echo: argument 2 contains a NUL byte", 126),
        ("ec\0ho", {}, "ec\\0ho: the command contains a NUL byte", 126),
        ("echo", {"env": {"X": "\0"}}, "echo: environment variable X contains a NUL byte", 126),
        ("echo", {"cwd": "/\0"}, "echo: the working directory contains a NUL byte", 126),
        ("x" * 3000, {}, "x" * 3000 + ": File name too long", 126),
    ],
)  # fmt: skip
def test_what_cannot_start_says_why(engine, tmp_path, command, options, reason, exit_code):
    """A user would get an empty output and no reason."""
    scripts(tmp_path)
    job = run(engine, JobSpec(command, **{"cwd": str(tmp_path)} | options))
    assert job.state is State.FAILED
    assert job.reason.startswith(reason.replace("{cwd}", str(tmp_path)))
    assert engine.read_output(job.id).decode() == job.reason + "\n"
    assert (job.exit_code, job.signal, job.started_at) == (exit_code, None, None)


def test_what_nobody_foresaw_fails_the_job_too(engine):
    """A job that neither runs nor ends would hold its slot for ever."""
    job = run(engine, JobSpec("cat", stdin=Path("/a\0b")))
    assert (job.state, job.exit_code, job.started_at) == (State.FAILED, 126, None)
    assert re.fullmatch("cannot be started: .*embedded null (byte|character).*", job.reason)
    job = engine.wait(engine.submit(JobSpec("true"), "me", run_as="a\0b").id, 20)
    assert job.state is State.FAILED


def test_a_path_that_stands_is_told_from_one_that_does_not(engine):
    """`ls` in a directory without rights would be told as a missing command."""
    job = run(engine, JobSpec("env", env={"PATH": ""}))
    assert job.reason == "env: command not found"


def test_what_started_us_leaves_no_trace(tmp_path):
    """Started by nohup or with blocked signals, the daemon's jobs would ignore them too."""
    code = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])\n"
        "from worker_core import Engine, JobSpec\n"
        "with Engine() as engine:\n"
        "    spec = JobSpec('grep', ['-E', '^Sig(Blk|Ign)', '/proc/self/status'])\n"
        "    job = engine.submit(spec, 'me')\n"
        "    print(engine.wait(job.id, 20).exit_code, engine.read_output(job.id))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 ")
    assert done.stdout.count("0000000000000000") == 2
