"""How `run --wait` and `wait` end, as a table."""

from __future__ import annotations

import pytest
from support.cli_run import InProcess, Worker

CASES = [
    (("true",), 0, "completed (exit code 0)"),
    (("sh", "-c", "exit 1"), 1, "failed (exit code 1)"),
    (("sh", "-c", "exit 125"), 125, "failed (exit code 125)"),
    (("sh", "-c", "exit 255"), 255, "failed (exit code 255)"),
    (("sh", "-c", "kill -SEGV $$"), 128 + 11, "failed (ended by signal SIGSEGV (11))"),
    (("sh", "-c", "kill -KILL $$"), 128 + 9, "failed (ended by signal SIGKILL (9))"),
    (("no-such-command",), 127, "failed (no-such-command: command not found)"),
    (("/etc/passwd",), 126, "failed (/etc/passwd: permission denied (not executable))"),
]
IDS = ["ok", "1", "125", "255", "SEGV", "KILL", "not found", "not executable"]


@pytest.mark.parametrize(("command", "code", "shown"), CASES, ids=IDS)
def test_exit_code_of_the_job(
    user: InProcess, command: tuple[str, ...], code: int, shown: str
) -> None:
    """A script would continue after a failure, or stop after a success."""
    assert user.as_process("run", "--wait", *command).code == code
    job = user.ok("list", "-q", "-n", "1").line
    done = user.run("wait", job)
    assert done.code == code
    assert done.out == f"{job} {shown}\n"


def test_timeout(user: Worker) -> None:
    """A script could not distinguish a job that timed out from one that failed."""
    done = user.run("run", "--wait", "--timeout", "200ms", "sleep", "60")
    assert done.code == 124
    assert "timed_out" in done.stderr


def test_killed(user: Worker) -> None:
    """A killed job would count as successful."""
    job = user.ok("run", "sleep", "60").line
    user.ok("kill", job)
    assert user.run("wait", "-q", job).code == 128 + 15


def test_killed_but_ended_with_zero(user: Worker) -> None:
    """A killed job that exits with 0 would count as successful."""
    job = user.ok("run", "sh", "-c", "trap 'exit 0' TERM; echo ready; sleep 60 & wait").line
    follower = user.start("out", "-f", job)
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"ready\n"
    user.ok("kill", job)
    follower.communicate(timeout=60)
    assert user.run("wait", "-q", job).code == 128 + 15


def test_wait_for_several(user: Worker) -> None:
    """A script with several jobs could not see whether all of them succeeded."""
    jobs = [user.ok("run", "sh", "-c", f"exit {code}").line for code in (0, 3, 4)]
    done = user.run("wait", *jobs)
    assert done.code == 3
    assert [line.split()[0] for line in done.out.splitlines()] == jobs
    assert user.run("wait", "-q", jobs[0], jobs[2]).code == 4
    quiet = user.run("wait", "-q", jobs[0])
    assert (quiet.code, quiet.stdout) == (0, b"")


def test_wait_for_several_with_one_unknown(user: Worker) -> None:
    """After one wrong id, the other jobs would not be waited for."""
    job = user.ok("run", "true").line
    done = user.run("wait", "ffffffff", job)
    assert done.code == 1
    assert done.out == f"{job} completed (exit code 0)\n"
    assert "you have no job whose id begins with ffffffff" in done.stderr


@pytest.mark.parametrize("words", [("run", "--wait", "true"), ("status", "0f3c")])
def test_no_answer(user: Worker, words: tuple[str, ...]) -> None:
    """A server that is unavailable would look like a failed job."""
    done = user.run(*words, env={"WORKER_SERVER": "https://localhost:1"})
    assert done.code == 125
