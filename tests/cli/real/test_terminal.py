"""Output on a terminal, compared with snapshots that a user has read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import cli_snapshot
from support.cli_run import Worker
from support.terminal import ends
from support.waiting import wait_until
from worker_cli import Client

ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")


def seen(user: Worker, *words: str, columns: int = 80, code: int = 0) -> str:
    """Return what a command shows in a terminal of so many columns."""
    terminal = user.at_terminal(*words, columns=columns)
    shown: bytes = terminal.read()
    terminal.close()
    assert terminal.exitstatus == code, shown
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def jobs(client: Client) -> list[str]:
    """A few jobs with different outcomes."""
    made = [
        client.run("echo", "hello"),
        client.run("sh", "-c", "echo no\nexit 3", name="nightly"),
        client.run("echi", "--all", "two words"),
        client.run("sleep", "60"),
        client.run("sleep", "61", timeout=0.1),
    ]
    made[3].kill()
    for job in made:
        job.wait()
    return [job.id for job in made]


def test_list(user: Worker, jobs: list[str]) -> None:
    """A user could not distinguish the jobs."""
    shown = ESCAPE.sub("", seen(user, "list"))
    for at, job in enumerate(jobs):
        shown = shown.replace(job[:8], f"<job {at}> ")
    shown = re.sub(r"\d\.(\d\ds|\ds )", "<dur>", shown)
    shown = re.sub(r"  \d+s +", "  <s>  ", shown)
    cli_snapshot.check("list", shown)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_list_fits_the_terminal(user: Worker, columns: int) -> None:
    """Lines would be broken in the middle, and the table be unreadable."""
    user.ok("run", "echo", *["word"] * 100)
    user.ok("run", "--name", "n" * 100, "echo", "漢字" * 60)
    for line in ESCAPE.sub("", seen(user, "list", columns=columns)).splitlines():
        width = len(line) + len(re.findall("[漢字]", line))
        assert width <= columns


def test_list_in_a_pipe_is_whole(user: Worker) -> None:
    """A program would get ids and commands that are cut off."""
    job = user.ok("run", "echo", *["word"] * 100).line
    row = user.ok("list").out.splitlines()[1]
    assert row.startswith(job)
    assert row.endswith(" ".join(["word"] * 100))


def test_list_without_jobs(user: Worker) -> None:
    """A new user would see nothing at all."""
    assert seen(user, "list") == "worker: no jobs yet; start one with: worker run echo hello\n"
    assert seen(user, "list", "--name", "x") == "worker: no matching jobs\n"
    assert user.ok("list").out == ""
    assert user.ok("list", "-o", "json").out == "[]\n"
    assert user.ok("list", "-o", "jsonl").out == ""


@pytest.mark.parametrize(
    ("at", "name"),
    [(0, "completed"), (1, "failed"), (2, "not-found"), (3, "killed"), (4, "timed-out")],
)
def test_status(user: Worker, jobs: list[str], at: int, name: str) -> None:
    """A user would have to read JSON to see how a job ended."""
    shown = ESCAPE.sub("", seen(user, "status", jobs[at]))
    cli_snapshot.check(f"status-{name}", shown.replace(user.environ["WORKER_USER"], "ann"))


def test_status_of_a_running_job(user: Worker) -> None:
    """The same while it runs."""
    job = user.ok("run", "--label", "a=b", "--cwd", "/", "sleep", "60").line
    wait_until(lambda: json.loads(user.ok("status", "-o", "json", job).stdout)["started_at"])
    cli_snapshot.check("status-running", ESCAPE.sub("", seen(user, "status", job)))
    user.ok("kill", "--now", job)


def test_hint_for_a_shell_line(user: Worker) -> None:
    """The most common mistake would have to be guessed from "command not found"."""
    user.run("run", "--wait", "ls | wc -l")
    assert "hint     to run a shell line: worker run --shell 'ls | wc -l'" in seen(
        user, "status", "@last"
    )


def test_colour(user: Worker, jobs: list[str]) -> None:
    """Failures would not stand out, or a log file would contain escape sequences."""
    assert "\x1b[31mfailed" in seen(user, "list")
    assert seen(user, "status", jobs[0]).startswith("\x1b[32mcompleted\x1b[0m (exit code 0)")
    assert "\x1b" not in user.ok("list").out
    user.environ["NO_COLOR"] = "1"
    assert "\x1b" not in seen(user, "list")


def test_names_do_not_reach_the_terminal_as_escapes(user: Worker) -> None:
    """The name of a job could clear the screen of the user who lists it."""
    user.ok("run", "--name", "\x1b[2J", "echo", "\x1b]0;title\x07")
    shown = seen(user, "list") + seen(user, "status", "@last")
    assert r"\x1b[2J" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown


def test_binary_goes_to_a_terminal_only_on_request(user: Worker) -> None:
    """A tar file would garble the terminal."""
    job = user.ok("run", "printf", "text\n\\000\\001").line
    user.ok("wait", "-q", job)
    shown = seen(user, "out", job, code=1)
    assert "binary and was not written to the terminal" in shown
    assert "\x00" not in shown
    assert "\x00\x01" in seen(user, "out", "-o", "-", job)
    assert user.ok("out", job).stdout == b"text\n\0\1"


def test_binary_output_of_a_followed_job(user: Worker) -> None:
    """The same for `run --wait`, whose exit code still has to be the job's."""
    shown = seen(user, "run", "--wait", "sh", "-c", "printf '\\000'; exit 3", code=3)
    assert "worker out -o FILE" in shown
    assert "\x00" not in shown


def test_progress_of_a_download(user: Worker) -> None:
    """A user would not see the progress of a download, or a pipe would get the progress bar."""
    job = user.ok("run", "--shell", "yes | head -c 200M").line
    user.ok("wait", "-q", job)
    shown = seen(user, "out", "-o", "file", job)
    assert re.search(r"\r *\d+% \[#*\.*\] \S+ MiB of 200\.0 MiB  \S+ MiB/s\x1b\[K", shown)
    assert shown.endswith("\r\x1b[K")
    assert (user.home / "file").stat().st_size == 200 << 20
    assert user.ok("out", "-o", "file", job).stderr == ""


def test_waiting_for_many_shows_how_many(user: Worker, tmp_path: Path) -> None:
    """A user would not know whether anything happens."""
    first = user.ok("run", "sleep", "60").line
    second = user.ok("run", "sleep", "60").line
    terminal = user.at_terminal("wait", first, second)
    terminal.expect_exact("waiting for 2 of 2")
    user.ok("kill", "--now", first)
    terminal.expect_exact(f"{first} ")
    terminal.expect_exact("waiting for 1 of 2")
    user.ok("kill", "--now", second)
    ends(terminal, 137)


def test_prune_asks(user: Worker, jobs: list[str]) -> None:
    """A mistyped command would delete every record."""
    terminal = user.at_terminal("prune")
    terminal.expect_exact("Delete 5 finished jobs and their output? [y/N] ")
    terminal.sendline("")
    terminal.expect_exact("nothing was deleted")
    ends(terminal, 1)
    terminal = user.at_terminal("prune", "--status", "completed")
    terminal.expect_exact("Delete 1 finished job and its output? [y/N] ")
    terminal.sendline("y")
    terminal.expect_exact(f"{jobs[0]} removed")
    ends(terminal, 0)


def test_input_at_a_terminal_ends_at_the_first_ctrl_d(user: Worker) -> None:
    """After Ctrl-D at the end of the input, the command would wait for a second one."""
    terminal = user.at_terminal("run", "--wait", "--stdin", "-", "tr", "a-z", "A-Z")
    terminal.sendline("hello")
    terminal.sendeof()
    terminal.expect_exact("HELLO")
    ends(terminal, 0)


def test_ctrl_c_at_a_terminal(user: Worker) -> None:
    """Ctrl-C would end in a traceback, or kill the job."""
    terminal = user.at_terminal("run", "--wait", "sh", "-c", "echo started; sleep 60")
    terminal.expect_exact("started")
    terminal.sendintr()
    terminal.expect_exact(
        "worker: detached; the job keeps running. To follow it again: worker out -f "
    )
    ends(terminal, 130)
    assert user.ok("status", "-q", "@last").line == "running"
    user.ok("kill", "--now", "@last")
