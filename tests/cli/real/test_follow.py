"""Following output: live, to the very end, over lost connections and restarts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli_run import Worker
from support.daemon import Daemon
from support.waiting import wait_until

UserOf = Callable[[Daemon], Worker]


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def gate(path: Path) -> str:
    """Return a shell word that waits until `open_gate(path)`."""
    os.mkfifo(path)
    return f"read x < {path}"


def open_gate(path: Path) -> None:
    path.write_text("go\n")


def test_output_is_live(user: Worker, tmp_path: Path) -> None:
    """A user would see nothing until the job has ended."""
    script = f"echo one; {gate(tmp_path / 'gate')}; echo two; exit 3"
    process = user.start("run", "--wait", "sh", "-c", script)
    assert line(process) == b"one\n"
    open_gate(tmp_path / "gate")
    assert line(process) == b"two\n"
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 3


def test_unfinished_lines_are_live(user: Worker, tmp_path: Path) -> None:
    """A prompt or a row of dots would be held back."""
    process = user.start("run", "--wait", "sh", "-c", f"printf ..; {gate(tmp_path / 'gate')}")
    assert process.stdout is not None
    assert process.stdout.read(2) == b".."
    open_gate(tmp_path / "gate")
    assert process.communicate(timeout=60) == (b"", b"")


@pytest.mark.parametrize("words", [("run", "--wait"), ("out", "-f")])
def test_ctrl_c_leaves_the_job_alone(user: Worker, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Ctrl-C while following would kill a job that ran for an hour."""
    command = ("sh", "-c", f"echo started; {gate(tmp_path / 'gate')}; echo done")
    if words[0] == "run":
        process = user.start(*words, *command)
    else:
        process = user.start(*words, user.ok("run", *command).line)
    assert line(process) == b"started\n"
    job = user.ok("list", "-q", "-n", "1").line
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.decode() == (
        f"worker: detached; the job keeps running. To follow it again: worker out -f {job}; "
        f"to stop it: worker kill {job}\n"
        if words[0] == "run"
        else f"worker: detached; the job keeps running. To stop it: worker kill {job}\n"
    )
    open_gate(tmp_path / "gate")
    assert user.ok("out", "-f", job).out == "started\ndone\n"


@pytest.mark.parametrize("end", [Daemon.kill9, Daemon.stop], ids=["killed", "stopped"])
def test_a_restart_of_the_server_is_not_noticed(
    own_daemon: Daemon, user_of: UserOf, tmp_path: Path, end: Callable[[Daemon], object]
) -> None:
    """During an upgrade of the server, lines would be missing or repeated, or the command end."""
    user = user_of(own_daemon)
    first, second = tmp_path / "first", tmp_path / "second"
    script = f"echo 1; {gate(first)}; seq 2 1000; {gate(second)}; echo 1001; exit 5"
    process = user.start("run", "--wait", "sh", "-c", script)
    assert line(process) == b"1\n"
    end(own_daemon)
    open_gate(first)
    own_daemon.start()
    expected = [b"%d\n" % number for number in range(2, 1001)]
    assert [line(process) for _ in expected] == expected
    open_gate(second)
    stdout, stderr = process.communicate(timeout=60)
    assert (stdout, stderr) == (b"1001\n", b"")
    assert process.returncode == 5


def test_wait_survives_a_restart(own_daemon: Daemon, user_of: UserOf, tmp_path: Path) -> None:
    """A script that waits for a job would fail during an upgrade of the server."""
    user = user_of(own_daemon)
    job = user.ok("run", "sh", "-c", f"{gate(tmp_path / 'gate')}; exit 6").line
    process = user.start("wait", job)
    wait_until(lambda: own_daemon.log().count(f"/jobs/{job}/status"), message=own_daemon.log)
    own_daemon.kill9()
    own_daemon.start()
    open_gate(tmp_path / "gate")
    stdout, stderr = process.communicate(timeout=60)
    assert (stdout, stderr) == (f"{job} failed (exit code 6)\n".encode(), b"")
    assert process.returncode == 6


def test_tail_and_follow(user: Worker, tmp_path: Path) -> None:
    """Between the last lines and the new ones, lines would be missing."""
    job = user.ok("run", "sh", "-c", f"seq 100; {gate(tmp_path / 'gate')}; echo end").line
    wait_until(lambda: user.ok("out", job).out.endswith("\n100\n"))
    process = user.start("out", "-f", "--tail", "2", job)
    assert line(process) == b"99\n"
    assert line(process) == b"100\n"
    open_gate(tmp_path / "gate")
    assert process.communicate(timeout=60) == (b"end\n", b"")


def test_end_is_never_cut_off(user: Worker) -> None:
    """The last lines of a job, which say why it failed, would be missing now and then."""
    for _ in range(20):
        done = user.run("run", "--wait", "sh", "-c", "seq 2000; echo the end; exit 9")
        assert done.code == 9
        assert done.out.endswith("\n2000\nthe end\n")
        assert len(done.stdout) == 8893 + len("the end\n")


def test_job_that_leaves_something_running_ends(user: Worker) -> None:
    """`run --wait` would never end if a job leaves a background process with its output open."""
    done = user.run("run", "--wait", "sh", "-c", "sleep 300 & echo done")
    assert (done.code, done.out) == (0, "done\n")


def test_reader_that_leaves_leaves_the_job_alone(user: Worker, tmp_path: Path) -> None:
    """`worker run --wait … | head -1` would kill the job, or leave it running without a message."""
    script = f"echo one; {gate(tmp_path / 'gate')}; seq 100000; {gate(tmp_path / 'end')}"
    process = user.start("run", "--wait", "sh", "-c", script)
    assert line(process) == b"one\n"
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    open_gate(tmp_path / "gate")
    assert process.wait(60) == 141
    job = user.ok("list", "-q", "-n", "1").line
    assert process.stderr.read().decode() == (
        f"worker: detached; the job keeps running. To follow it again: worker out -f {job}; "
        f"to stop it: worker kill {job}\n"
    )
    process.stderr.close()
    open_gate(tmp_path / "end")
    assert user.ok("wait", job).out == f"{job} completed (exit code 0)\n"


def test_missing_bytes_are_reported(user: Worker, tmp_path: Path) -> None:
    """A user would believe that the newest output is all of the output."""
    size = 4 << 20
    script = f"yes | head -c {size}; {gate(tmp_path / 'gate')}"
    job = user.ok("run", "--output-limit", "64k", "--shell", script).line
    wait_until(lambda: "the server no longer has" in user.run("out", job).stderr, 20)
    done = user.run("out", job)
    assert done.code == 1
    assert 0 < len(done.stdout) < size // 2
    assert f"(bytes 0 to {size - len(done.stdout)})" in done.stderr
    open_gate(tmp_path / "gate")
    user.ok("wait", "-q", job)
