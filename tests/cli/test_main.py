"""The command line itself: wrong usage, its messages, and help."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.cli_run import COMMAND, Worker
from worker_cli import __version__, commands
from worker_cli.__main__ import main
from worker_cli.commands import run


@pytest.mark.parametrize("words", [(), ("help",), ("--help",), ("-h",)])
def test_help_is_on_stdout(worker: Worker, words: tuple[str, ...]) -> None:
    """To read the help in a pager, stderr would have to be redirected."""
    done = worker.ok(*words)
    assert done.out.startswith("worker: run commands on a server")
    assert all(f"\n  {name}" in done.out for name in commands.NAMES)
    assert "worker run echo hello" in done.out
    assert done.stderr == ""


@pytest.mark.parametrize("name", commands.NAMES)
def test_every_action_has_help_with_examples(worker: Worker, name: str) -> None:
    """A new user would have to guess how an action is used."""
    done = worker.ok(name, "--help")
    assert done.out == worker.ok("help", name).out
    assert f"usage: worker {name}" in done.out
    assert "Examples\n  " in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())


def test_help_of_list_explains_other_users_jobs(worker: Worker) -> None:
    """Administrators would search for an option that does not exist."""
    assert "?owner=NAME" in worker.ok("list", "--help").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("staus",), "unknown action staus; did you mean status?"),
        (("frobnicate",), "unknown action frobnicate"),
        (("--frob", "run"), "unknown option --frob"),
        (("help", "klil"), "unknown action klil; did you mean kill?"),
        (("status",), "status needs ID"),
        (("status", "a", "b"), "status takes only ID; unexpected: b"),
        (("list", "x"), "list takes no operand; unexpected: x"),
        (("signal", "a"), "signal needs ID SIGNAL"),
        (("run",), "run needs a COMMAND, or --shell LINE"),
        (("run", "--wiat", "ls"), "unknown option --wiat; did you mean --wait?"),
        (("run", "--tail", "ls"), "unknown option --tail"),
        (("run", "--name"), "--name needs a value: --name NAME"),
        (("run", "--wait=yes", "ls"), "--wait takes no value"),
        (("run", "--env", "HOME", "ls"), "--env HOME: must be KEY=VALUE"),
        (("run", "--timeout", "soon", "ls"), "--timeout soon: must be seconds above 0, or"),
        (("run", "--timeout", "0", "ls"), "--timeout 0: must be seconds above 0, or"),
        (("run", "--timeout", "0.0m", "ls"), "--timeout 0.0m: must be seconds above 0, or"),
        (("run", "--timeout", "999999w", "ls"), "must be less than a hundred years"),
        (("run", "--output-limit", "much", "ls"), "--output-limit much: must be a number of bytes"),
        (("run", "--label", "a=1", "--label", "a=2", "ls"), "--label a=1 and --label a=2: a label"),
        (("list", "--label", "a=1", "--label", "a=2"), "a label has only one value"),
        (("prune", "--label", "a=1", "--label", "a="), "a label has only one value"),
        (("run", "--shell", "ls", "ls"), "replaces the command; unexpected: ls"),
        (("out", "--tail", "-1", "a"), "--tail -1: must be a whole number from 0 to 9"),
        (("out", "--tail", "1", "--offset", "1", "a"), "cannot be combined"),
        (("kill", "--now", "--grace", "1", "a"), "--now and --grace cannot be combined"),
        (("list", "-o", "xml"), "-o xml: must be one of table, json, jsonl"),
        (("list", "--status", "dead"), "--status dead: must be one of queued, running"),
        (("list", "-nq"), "-n q: must be a whole number"),
        (("list", "-qx"), "unknown option -qx"),
        (("completion", "tcsh"), "no script for tcsh; choose one of: bash, zsh, fish"),
        (("login", "https://a", "--server", "https://b"), "the server is given twice"),
        (("login", ""), "the URL is empty"),
        (("status", "-q", "-o", "json", "a"), "-q and -o json cannot be combined"),
        (("list", "-q", "-o", "table"), "-q and -o table cannot be combined"),
        (("status", "--server", "", "a"), "--server : must not be empty"),
    ],
)
def test_wrong_usage(worker: Worker, words: tuple[str, ...], message: str) -> None:
    """A mistake would do something unintended, or end in an unclear message."""
    done = worker.run(*words)
    assert done.code == 2
    assert done.stdout == b""
    error, usage, help_line = done.stderr.splitlines()
    assert error.startswith("Client Error: ")
    assert message in error
    assert usage.startswith("usage: worker ")
    assert help_line.startswith("help: worker ")


def test_wrong_usage_names_the_help_of_its_action(worker: Worker) -> None:
    """A user would search for the usage of this action in the help of all others."""
    assert worker.run("kill", "--soon").stderr == (
        "Client Error: unknown option --soon\n"
        "usage: worker kill [OPTION …] ID [ID …]\n"
        "help: worker kill --help\n"
    )


def test_an_input_file_that_is_missing_is_one_sentence(worker: Worker) -> None:
    """The file's name would be hidden among lines about usage, which is not what is wrong."""
    done = worker.run("run", "--stdin", "/nowhere", "ls")
    assert (done.code, done.stdout) == (2, b"")
    assert done.stderr == (
        "worker: cannot read --stdin /nowhere: No such file or directory; name a file on this "
        "machine, or - for this command's stdin\n"
    )


def test_only_finished_jobs_can_be_pruned(worker: Worker) -> None:
    """A user would believe that running jobs were deleted."""
    done = worker.run("prune", "--status", "running")
    assert done.code == 2
    assert "--status running: only finished jobs can be deleted" in done.stderr


@pytest.mark.parametrize("name", ["kill", "wait", "remove"])
def test_a_missing_job_id_is_reported_first(worker: Worker, name: str) -> None:
    """After `worker kill $(worker list -q …)` without jobs, the message would not explain why."""
    done = worker.run(name)
    assert done.code == 2
    assert done.stdout == b""
    error = f"{name} needs the id of a job; none was given (did `worker list` find none?)"
    assert done.stderr.startswith(f"Client Error: {error}\nusage: worker {name} ")


@pytest.mark.parametrize("file", ["-", "/dev/zero"])
def test_input_without_end_is_refused(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The machine's memory would be full before the error is reported."""
    monkeypatch.setattr(run, "MAX_STDIN", 3 << 20)
    with Path("/dev/zero").open() as endless:
        monkeypatch.setattr("sys.stdin", endless)
        assert main(["run", "--stdin", file, "cat"]) == 1
    assert capsys.readouterr().err.startswith(
        f"worker: --stdin {file}: more than 3.0 MiB of input is more than the server accepts"
    )


def test_as_much_input_is_read_as_any_server_takes() -> None:
    """A server with a higher max_body would have no effect."""
    assert run.MAX_STDIN >= 256 << 20


@pytest.mark.parametrize(
    ("words", "password", "message"),
    [
        (("--user", b"\xff"), b"secret", r"--user \xff cannot be saved: it is not UTF-8"),
        (("--user", "ann", "--profile", b"\xff"), b"secret", r"--profile \xff cannot be saved"),
        (("--user", "ann", "--cacert", b"\xff"), b"secret", r"\xff cannot be saved"),
        (("--user", "ann"), b"\xff", "the password is not UTF-8"),
        (("--user", "ann"), b"", "the password is empty"),
        (("--user", "ann"), b"\n", "the password is empty"),
    ],
)
def test_an_impossible_login_is_not_sent(
    worker: Worker, words: tuple[str | bytes, ...], password: bytes, message: str
) -> None:
    """A mistake would be reported as a bug, or count on the server as a failed login."""
    worker.environ["WORKER_SERVER"] = "https://127.0.0.1:1"  # being asked would be another error
    done = worker.run("login", "--password-stdin", *words, stdin=password)
    assert done.code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not worker.config.exists()


@pytest.mark.parametrize("words", [("--version",), ("version", "--client")])
def test_version_needs_no_server(worker: Worker, words: tuple[str, ...]) -> None:
    """A bug report could not contain the version."""
    assert worker.ok(*words).out == f"worker {__version__}\n"


def test_version_without_a_server_reports_why(worker: Worker) -> None:
    """The version would be missing exactly when a problem with the server is reported."""
    done = worker.ok("version", "--server", "https://localhost:1")
    assert done.out == f"worker {__version__}\n"
    assert "nothing listens there" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--server", "https://localhost:1", "whoami"),
        ("whoami", "--server", "https://localhost:1"),
        ("whoami", "--server=https://localhost:1"),
        ("--server", "https://localhost:2", "whoami", "--server", "https://localhost:1"),
    ],
)
def test_common_options_stand_before_or_after_the_action(
    worker: Worker, words: tuple[str, ...]
) -> None:
    """People type them in either place; the last one is used."""
    assert "https://localhost:1:" in worker.run(*words).stderr


def test_failures_are_one_line(worker: Worker) -> None:
    """A user would have to search for what happened and what to do."""
    done = worker.run("whoami", "--server", "https://localhost:1")
    assert done.code == 125
    assert done.stderr == (
        "worker: cannot reach https://localhost:1: nothing listens there; "
        "is workerd running, and is 1 its port (usually 8443)?\n"
    )


def test_debug_shows_the_traceback(worker: Worker) -> None:
    """A bug report would lack what is needed to find the bug."""
    process = worker.start("--debug", "whoami", "--server", "https://localhost:1")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 125
    assert b"Traceback (most recent call last)" in stderr
    assert stderr.splitlines()[-1].startswith(b"worker: cannot reach")
    assert b"Basic" not in stderr


def test_unknown_host(worker: Worker) -> None:
    """A misspelt host would look like a network that is down."""
    done = worker.run("whoami", "--server", "https://no-such-host.invalid:8443")
    assert done.code == 125
    assert "the name no-such-host.invalid is not known" in done.stderr


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("https://", "invalid server address"),
        ("https://host:port", "invalid server address"),
        ("https://host:99999", "invalid server address"),
        ("https://host/?x=1", "invalid server address"),
        ("https://ann:secret@host", "contains a user or a password"),
        ("two words", "invalid server address"),
    ],
)
def test_malformed_addresses(worker: Worker, server: str, message: str) -> None:
    """A typing mistake would be sent over the network, or end in an unclear message."""
    done = worker.run("whoami", "--server", server)
    assert done.code == 2
    assert message in done.stderr
    assert "secret" not in done.stderr


def test_a_closed_pipe_is_not_an_error(worker: Worker) -> None:
    """`worker help | head -1` would print an error."""
    process = worker.start("help")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    process.stderr.close()


def test_full_disk_is_reported(worker: Worker) -> None:
    """Output would be lost, while the exit code reports success."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, "help"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=worker.environ,
            check=False,
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr


def test_closed_streams_are_no_problem(worker: Worker) -> None:
    """A job started by a daemon with closed streams would end in a traceback."""
    for redirection in ("2>&-", "<&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{COMMAND} help {redirection}"],
            capture_output=True,
            env=worker.environ,
            check=False,
        )
        assert done.returncode == 0
        assert done.stderr == b""
