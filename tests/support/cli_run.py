"""The installed `worker` command, in a home directory of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pexpect
from worker_cli.__main__ import main

COMMAND = Path(sys.executable).with_name("worker")
TIMEOUT = 60.0

_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def out(self) -> str:
        """stdout as text."""
        return self.stdout.decode("utf-8")

    @property
    def line(self) -> str:
        """The one line on stdout."""
        (line,) = self.out.splitlines()
        return line


class Worker:
    """A user at a shell. The command gets `environ`, which a test may change, and nothing else."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        self.config = home / ".config" / "worker"
        self.environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self.environ |= {"HOME": str(home), "PYTHONWARNINGS": "error"} | environ

    def run(
        self, *words: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Done:
        """Run the command in a process of its own, whatever its exit code."""
        done = subprocess.run(
            [COMMAND, *words],
            input=stdin,
            capture_output=True,
            env=self.environ | (env or {}),
            timeout=TIMEOUT,
            check=False,
            cwd=self.home,
        )
        stderr = done.stderr.decode("utf-8", "replace")
        assert "Traceback" not in stderr, stderr
        return Done(done.returncode, done.stdout, stderr)

    def ok(self, *words: str | bytes, stdin: bytes = b"") -> Done:
        """Run the command, which must exit with 0."""
        done = self.run(*words, stdin=stdin)
        assert done.code == 0, f"exit code {done.code}: {done.stderr}"
        return done

    def start(self, *words: str | bytes) -> subprocess.Popen[bytes]:
        """Start a command with pipes for its streams."""
        return subprocess.Popen(
            [COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environ,
            cwd=self.home,
        )

    def at_terminal(self, *words: str, columns: int = 80) -> pexpect.spawn:
        """Start a command in a pseudo-terminal."""
        return pexpect.spawn(
            str(COMMAND),
            list(words),
            env=self.environ | {"TERM": "xterm"},
            cwd=str(self.home),
            timeout=TIMEOUT,
            dimensions=(40, columns),
        )


class InProcess(Worker):
    """The same user, but `run` calls the command in this process, which is many times faster.

    Use `as_process` where the process itself matters: how it starts, its locale, its limits.
    """

    def run(
        self, *words: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Done:
        """Call the command and return its result, whatever its exit code."""
        with (
            _stream(stdin) as (stdin_file, _),
            _stream() as (stdout_file, stdout_copy),
            _stream() as (stderr_file, stderr_copy),
            mock.patch.dict(os.environ, self.environ | (env or {}), clear=True),
            mock.patch.multiple(sys, stdin=stdin_file, stdout=stdout_file, stderr=stderr_file),
            contextlib.chdir(self.home),
        ):
            code = main([os.fsdecode(word) for word in words])
            with contextlib.suppress(OSError):
                stdout_file.flush()
            stderr_file.flush()
            stderr = _content(stderr_copy).decode("utf-8", "replace")
            assert "Traceback" not in stderr, stderr
            return Done(code, _content(stdout_copy), stderr)

    def as_process(
        self, *words: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Done:
        """Run the command in a process of its own, whatever its exit code."""
        return super().run(*words, stdin=stdin, env=env)


@contextlib.contextmanager
def _stream(content: bytes = b"") -> Iterator[tuple[io.TextIOWrapper, int]]:
    """Yield a text stream on a file, and a descriptor that reads the file's content."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        copy = os.dup(file.fileno())
        try:
            yield io.TextIOWrapper(file, "utf-8", newline=""), copy
        finally:
            os.close(copy)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
