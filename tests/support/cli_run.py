"""The installed `worker` command as a process, in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pexpect

COMMAND = Path(sys.executable).with_name("worker")
TIMEOUT = 60.0

_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Done:
    """What a run of the command came to."""

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
    """A user at a shell. `environ` may be changed, and is all that the command gets."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        self.config = home / ".config" / "worker"
        self.environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self.environ |= {"HOME": str(home), "PYTHONWARNINGS": "error"} | environ

    def run(
        self, *words: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Done:
        """Run the command to its end, wherever that leads."""
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
        """Run the command; it has to end with exit code 0."""
        done = self.run(*words, stdin=stdin)
        assert done.code == 0, f"exit code {done.code}: {done.stderr}"
        return done

    def start(self, *words: str | bytes) -> subprocess.Popen[bytes]:
        """Begin a command whose streams are pipes."""
        return subprocess.Popen(
            [COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environ,
            cwd=self.home,
        )

    def at_terminal(self, *words: str, columns: int = 80) -> pexpect.spawn:
        """Begin a command in a pseudo-terminal."""
        return pexpect.spawn(
            str(COMMAND),
            list(words),
            env=self.environ | {"TERM": "xterm"},
            cwd=str(self.home),
            timeout=TIMEOUT,
            dimensions=(40, columns),
        )
