"""Running a command on the server and reading its output."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from support.cli_run import COMMAND, InProcess, Worker
from support.waiting import wait_until

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_run_prints_the_id_and_does_not_wait(user: Worker) -> None:
    """A script could not use the id, or would wait for the end of the job."""
    done = user.ok("run", "sleep", "60")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n", done.out)
    assert done.stderr == ""
    assert user.ok("status", "-q", done.line).line in ("queued", "running")
    user.ok("kill", "--now", done.line)


def test_run_status_out(user: InProcess) -> None:
    """The tour of the README would not work."""
    job = user.as_process("run", "echo", "hello").line
    assert user.ok("wait", job).line == f"{job} completed (exit code 0)"
    assert user.ok("status", job).out == "completed (exit code 0)\n"
    assert user.ok("status", "-q", job).out == "completed\n"
    assert user.as_process("out", job).out == "hello\n"


def test_a_command_that_does_not_exist_is_a_failed_job(user: Worker) -> None:
    """A misspelt command would fail without a reason."""
    job = user.ok("run", "echi", "hello").line
    assert user.run("wait", job).code == 127
    assert user.ok("status", job).out == "failed (echi: command not found)\n"
    assert "echi: command not found" in user.ok("out", job).out


def test_a_start_error_is_not_part_of_the_output(user: Worker) -> None:
    """A message would be written into the file for the output, and not be shown."""
    done = user.run("run", "--wait", "--separate-stderr", "echi")
    assert (done.code, done.out, done.stderr) == (127, "", "echi: command not found\n")


def test_shell_line_without_a_shell_gets_a_hint(user: Worker) -> None:
    """The most common mistake would have to be guessed from "command not found"."""
    done = user.run("run", "--wait", "ls | wc -l")
    assert done.code == 127
    assert done.stderr == "worker: to run a shell line: worker run --shell 'ls | wc -l'\n"


@pytest.mark.parametrize("words", [("run", "--wait"), ("run", "--wait", "--stdin", "-")])
def test_bytes_pass_unchanged(user: Worker, words: tuple[str, ...]) -> None:
    """A tar file would arrive damaged, or end in a newline of our own."""
    data = bytes(range(256)) * 10
    done = user.run(*words, "sh", "-c", "cat /dev/stdin", stdin=data)
    assert done.code == 0
    assert done.stdout == (data if "--stdin" in words else b"")


def test_background_processes_are_killed_as_the_help_says(user: Worker) -> None:
    """A server started with & would be killed, and the user would not know why."""
    line = "setsid sleep 1000 >/dev/null 2>&1 & echo $!"
    pid = int(user.ok("run", "--wait", "--shell", line).out)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    text = " ".join(user.ok("run", "--help").out.split())
    assert "ends when its first process ends; other processes that it started" in text


def test_any_argument_arrives(user: Worker) -> None:
    """A file name that is not UTF-8 could not be an argument of a job."""
    odd = [b"\xff\xfe", "ü€😀".encode(), b"", b"a b", b"-x", b"--", b"\n", b"\xed\xb2\x80"]
    script = 'for each; do printf "<%s>" "$each"; done'
    done = user.run("run", "--wait", "sh", "-c", script, "sh", *odd)
    assert done.stdout == b"".join(b"<%s>" % each for each in odd)


def test_big_output_needs_little_memory(user: Worker) -> None:
    """Reading a long log would end the client, or the machine that it runs on."""
    size = 300 << 20
    job = user.ok("run", "--shell", f"yes 0123456789abcde | head -c {size}").line
    user.ok("wait", "-q", job)
    process = subprocess.Popen(
        [COMMAND, "out", job], stdout=subprocess.PIPE, env=user.environ, cwd=user.home
    )
    assert process.stdout is not None
    digest = hashlib.sha256()
    for _ in range(299):
        digest.update(process.stdout.read(1 << 20))
    # It cannot end yet: what is left does not fit into the pipe.
    memory = Path(f"/proc/{process.pid}/status").read_text()
    rest, _ = process.communicate(timeout=60)
    digest.update(rest)
    assert process.returncode == 0
    assert digest.digest() == hashlib.sha256(b"0123456789abcde\n" * (size // 16)).digest()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", memory)
    assert int(peak) < 80_000


def test_options_reach_the_job(user: Worker) -> None:
    """A job would run in the wrong directory, or without its variables."""
    script = 'pwd; echo "$GREETING/$EMPTY/"; kill -TERM $$'
    options = ["--env", "GREETING=hi=ho", "--env", "EMPTY=", "--cwd", "/usr", "--name", "n"]
    options += ["--label", "a=b", "--label", "c=", "--timeout", "10m", "--grace", "3"]
    options += ["--stop-signal", "INT", "--output-limit", "1M", "--separate-stderr"]
    job = user.ok("run", *options, "sh", "-c", script).line
    assert user.run("wait", "-q", job).code == 128 + 15
    assert user.ok("out", job).out == "/usr\nhi=ho//\n"
    spec = json.loads(user.ok("status", "-o", "json", job).stdout)["spec"]
    expected = {
        "command": "sh",
        "args": ["-c", script],
        "cwd": "/usr",
        "name": "n",
        "labels": {"a": "b", "c": ""},
        "timeout": 600,
        "stop_grace": 3,
        "stop_signal": "SIGINT",
        "output_limit": 1 << 20,
        "separate_stderr": True,
    }
    assert {key: spec[key] for key in expected} == expected


def test_separate_streams(user: Worker) -> None:
    """stderr would be mixed into stdout, although --separate-stderr is given."""
    script = "echo data; echo trouble >&2; exit 4"
    done = user.run("run", "--wait", "--separate-stderr", "sh", "-c", script)
    assert (done.code, done.out, done.stderr) == (4, "data\n", "trouble\n")
    assert user.ok("out", "@last").out == "data\n"
    assert user.ok("out", "--stderr", "@last").out == "trouble\n"


def test_a_stream_that_is_not_separate_is_explained(user: Worker) -> None:
    """The message would name a field of the API instead of the option."""
    job = user.ok("run", "true").line
    done = user.run("out", "--stderr", job)
    assert (done.code, done.stdout) == (1, b"")
    assert done.stderr == (
        f"worker: job {job} was not run with --separate-stderr, so its stderr is part of its "
        f"output; see: worker out {job}\n"
    )


def test_parts_of_the_output(user: Worker) -> None:
    """A user would have to read all of a long log to see its end."""
    job = user.ok("run", "seq", "10").line
    user.ok("wait", "-q", job)
    assert user.ok("out", "--tail", "2", job).out == "9\n10\n"
    assert user.ok("out", "--tail", "0", job).out == ""
    assert user.ok("out", "--offset", "4", job).out == "3\n4\n5\n6\n7\n8\n9\n10\n"
    done = user.run("out", "--offset", "100", job)
    assert (done.code, done.stdout) == (1, b"")
    assert "past the end" in done.stderr


def test_output_into_a_file(user: Worker) -> None:
    """An unknown job would empty the file."""
    file = user.home / "out.txt"
    file.write_text("precious")
    assert user.run("out", "-o", "out.txt", UNKNOWN).code == 1
    assert file.read_text() == "precious"
    job = user.ok("run", "echo", "new").line
    user.ok("wait", "-q", job)
    user.ok("out", "-o", "out.txt", job)
    assert file.read_text() == "new\n"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("no/out.txt", "No such file or directory"),
        (".", "Is a directory"),
        ("/dev/full", "No space left on device"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(user: Worker, file: str, why: str) -> None:
    """The message would not name the file that cannot be written."""
    user.ok("run", "--wait", "echo", "new")
    done = user.run("out", "-o", file, "@last")
    assert (done.code, done.stdout) == (1, b"")
    assert done.stderr == f"worker: cannot write {file}: {why}; name another file with -o FILE\n"


@pytest.mark.parametrize(
    "words",
    [("status",), ("out",), ("out", "-f"), ("kill",), ("wait",), ("remove",)],
)
def test_unknown_job(user: Worker, words: tuple[str, ...]) -> None:
    """A mistyped id would cause an unclear message, or be waited on for ever."""
    done = user.run(*words, UNKNOWN)
    assert (done.code, done.stdout) == (1, b"")
    assert done.stderr == (
        f"worker: you have no job {UNKNOWN}: it is unknown, removed or not yours\n"
    )


def test_other_users_jobs_are_unknown(user: Worker, daemon: object) -> None:
    """A user could find out which ids of other users exist."""
    job = user.ok("run", "true").line
    other = {"WORKER_USER": daemon.user, "WORKER_PASSWORD": daemon.password}  # type: ignore[attr-defined]
    done = user.run("status", job, env=other)
    assert done.code == 1
    assert done.stderr == f"worker: you have no job {job}: it is unknown, removed or not yours\n"


def test_refused_jobs_say_why(user: Worker) -> None:
    """A user would have to guess which option is wrong."""
    done = user.run("run", "--cwd", "here", "--stop-signal", "FOO", "ls")
    assert done.code == 1
    assert "cwd: must be an absolute path" in done.stderr
    assert "invalid signal 'FOO'" in done.stderr


def test_wrong_password(user: Worker) -> None:
    """A wrong password would look like a problem of the server."""
    done = user.run("status", UNKNOWN, env={"WORKER_PASSWORD": "wrong"})
    assert done.code == 125
    assert "did not accept the login: the user name or the password is wrong" in done.stderr


def test_input_that_is_too_big_is_refused_in_words(user: Worker) -> None:
    """The message about a file that is too big would be "broken pipe", or about a body's length."""
    (user.home / "big").write_bytes(os.urandom(13 << 20))
    done = user.run("run", "--stdin", "big", "cat")
    assert done.code == 1
    assert done.stderr.startswith(
        "worker: --stdin big: 13.0 MiB of input is more than the server accepts with a job; "
        "copy the file to the server"
    )
    assert "body" not in done.stderr.replace("max_body", "")
