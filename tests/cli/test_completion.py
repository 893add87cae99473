"""Completion: what a shell offers when the tab key is pressed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pexpect
import pytest
from support.cli_certs import Identity
from support.cli_run import COMMAND, InProcess, Worker
from support.cli_stub import Answer, Request, Stub, answer
from worker_cli import commands

LIVE = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"
DONE = "77ab1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"


def jobs(request: Request) -> Answer:
    """Answer as a server with two jobs does."""
    records = [
        {"id": LIVE, "status": "running", "spec": {"command": "make", "args": ["-j8"]}},
        {"id": DONE, "status": "failed", "spec": {"command": "false"}},
    ]
    wanted = request.query.get("status", ["running", "failed"])
    return answer(200, {"jobs": [each for each in records if each["status"] in wanted]})


@pytest.fixture(autouse=True)
def no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `complete`, when it runs in this process, more time than a slow machine needs."""
    monkeypatch.setattr("worker_cli.commands.complete._SECONDS", 600)


def complete(worker: Worker, *line: str) -> dict[str, str]:
    """Return the candidates, each with its meaning."""
    rows = [row.split("\t", 1) for row in worker.ok("complete", "--", *line).out.splitlines()]
    return dict(rows)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ((), list(commands.NAMES)),
        (("",), list(commands.NAMES)),
        (("st",), ["status"]),
        (("help", "who"), ["whoami"]),
        (("--server", "https://x", "st"), ["status"]),
        (("--se",), ["--server"]),
        (("frobnicate", ""), list(commands.NAMES)),
        (("run", "--st"), ["--stdin", "--stop-signal"]),
        (("run", "--stdin", ""), [":file"]),
        (("out", "-o", ""), [":file"]),
        (("--cacert", ""), [":file"]),
        (("--cacert=",), []),
        (("run", ""), [":program"]),
        (("run", "ls", "-"), [":file"]),
        (("run", "--", "l"), [":program"]),
        (("run", "--name", ""), []),
        (("logout", "-"), [name for each in commands.EVERYWHERE for name in each.names]),
        (("out", "--", "-"), []),
        (("list", "--status", "run"), ["running"]),
        (("list", "--status=run"), ["--status=running"]),
        (("list", "--status", "=", "run"), ["running"]),
        (("list", "-o", "j"), ["json", "jsonl"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("completion", "bash", ""), []),
        (("signal", LIVE, "US"), ["USR1", "USR2"]),
        (("signal", LIVE, "HUP", ""), []),
        (("login", ""), []),
    ],
)
def test_offers(worker: Worker, line: tuple[str, ...], offered: list[str]) -> None:
    """The tab key would offer words that are not valid there."""
    assert list(complete(worker, *line)) == offered


def test_candidates_have_meanings(worker: Worker) -> None:
    """Shells that show the meaning of a word would have nothing to show."""
    assert complete(worker, "stat") == {"status": "print a job's status"}
    assert complete(worker, "run", "--wai")["--wait"].startswith("follow its output")


@pytest.mark.parametrize(
    ("action", "offered"),
    [
        ("status", {LIVE: "running: make -j8", DONE: "failed: false"}),
        ("out", {LIVE: "running: make -j8", DONE: "failed: false"}),
        ("kill", {LIVE: "running: make -j8"}),
        ("wait", {LIVE: "running: make -j8"}),
        ("signal", {LIVE: "running: make -j8"}),
        ("remove", {DONE: "failed: false"}),
    ],
)
def test_ids_of_jobs(
    worker: Worker, identity: Identity, action: str, offered: dict[str, str]
) -> None:
    """A user would have to copy ids, or be offered jobs that cannot be killed any more."""
    with Stub(identity, jobs) as stub:
        worker.environ["WORKER_SERVER"] = stub.url
        assert complete(worker, action, "") == offered
        assert list(complete(worker, action, "0f")) == [each for each in offered if each == LIVE]


def test_the_server_on_the_line_is_used(worker: Worker, identity: Identity) -> None:
    """Jobs of another server would be offered."""
    with Stub(identity, jobs) as stub:
        assert LIVE in complete(worker, "status", "--server", stub.url, "")
        assert LIVE in complete(worker, f"--server={stub.url}", "status", "")


def test_profiles(worker: Worker) -> None:
    """Names of profiles would have to be remembered."""
    worker.config.mkdir(parents=True)
    (worker.config / "config.toml").write_text("[profiles.lab]\n[profiles.home]\n")
    assert list(complete(worker, "--profile", "l")) == ["lab"]


def test_a_missing_server_prints_nothing(worker: Worker) -> None:
    """A message would be written into the line that is being typed."""
    worker.environ["WORKER_SERVER"] = "https://localhost:1"
    done = worker.ok("complete", "--", "status", "")
    assert (done.stdout, done.stderr) == (b"", "")


def test_a_silent_server_does_not_block_the_shell(worker: InProcess) -> None:
    """The shell would hang after a press of the tab key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker.environ["WORKER_SERVER"] = f"https://localhost:{listener.getsockname()[1]}"
        done = worker.as_process("complete", "--", "status", "")
    # Its own time was up: it would exit with 0 after the client's much longer timeouts.
    assert (done.code, done.stdout, done.stderr) == (125, b"", "")


def test_help_does_not_speak_of_the_hidden_action(worker: Worker) -> None:
    """People would wonder what `complete` is for."""
    assert "\n  complete " not in worker.ok("help").out


@pytest.fixture
def shell(worker: Worker) -> Worker:
    """A user whose shell finds the command."""
    worker.environ["PATH"] = f"{COMMAND.parent}:{worker.environ['PATH']}"
    return worker


BASH = """
source <(worker completion bash)
COMP_WORDS=({line}) COMP_CWORD={at}
_worker
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("worker", "st"), ["status"]),
        (("worker", "run", "--sep"), ["--separate-stderr"]),
        (("worker", "list", "--status", "=", "ki"), ["killed"]),
        (("worker", "run", "sha256su"), ["sha256sum"]),
    ],
)
def test_bash(shell: Worker, words: tuple[str, ...], offered: list[str]) -> None:
    """The script would not work in the shell that it is for."""
    script = BASH.format(line=" ".join(map(repr, words)), at=len(words) - 1)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, env=shell.environ, check=True, text=True
    )
    assert sorted(set(done.stdout.splitlines())) == offered
    assert done.stderr == ""


# Shells that are not installed are not tested; the scripts have to be right where they are.
FISH = [shutil.which("fish")] if shutil.which("fish") else []
ZSH = [shutil.which("zsh")] if shutil.which("zsh") else []


@pytest.mark.parametrize("fish", FISH)
def test_fish(shell: Worker, fish: str) -> None:
    """The same for fish."""
    script = """
        worker completion fish | source
        complete -C 'worker sta'
        complete -C 'worker list --status ki'
    """
    done = subprocess.run(
        [fish, "-c", script], capture_output=True, env=shell.environ, check=True, text=True
    )
    assert done.stdout.splitlines() == ["status\tprint a job's status", "killed"]


@pytest.mark.parametrize("zsh", ZSH)
def test_zsh(shell: Worker, zsh: str, tmp_path: Path) -> None:
    """The same for zsh."""
    terminal = pexpect.spawn(
        zsh, ["-f", "-i"], env=shell.environ | {"TERM": "dumb", "PS1": "$ "}, timeout=30
    )
    terminal.sendline("autoload -U compinit; compinit -u; source <(worker completion zsh)")
    terminal.sendline("echo ready-$?")
    terminal.expect_exact("ready-0")
    terminal.sendline("")
    terminal.send("worker list --status ki\t")
    terminal.expect_exact("killed")
    terminal.close(force=True)
