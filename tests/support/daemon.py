"""The real `workerd` as a process, for the tests of all distributions."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import bcrypt

from support.waiting import wait_until

CERTS = Path(__file__).resolve().parents[2] / "certs"
START_TIMEOUT = 20.0
END_TIMEOUT = 30.0  # workerd promises 10


class Daemon:
    """A `workerd` on loopback with the development certificate and a demo user.

    `with Daemon(tmp_path) as daemon:` starts it and ends it together with its supervisor and jobs.
    A port is picked at the first start and kept over restarts. Settings are those of workerd.toml.
    """

    def __init__(self, directory: Path, *, start: bool = True, **settings: Any) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.config = directory / "workerd.toml"
        self.users_file = directory / "users"
        self.ca = CERTS / "ca.pem"
        self.user = "demo"
        self.password = "demo password"
        self.host = "127.0.0.1"
        self.port = 0
        self.environment: dict[str, str] = {}
        self.arguments: list[str] = []
        self.popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
        self._log = directory / "workerd.log"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.write_users({self.user: self.password})
        self.write_settings(**settings)
        if start:
            self.start()

    @property
    def url(self) -> str:
        """The URL to give to clients."""
        return f"https://localhost:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running daemon."""
        assert self._process is not None, "workerd is not running"
        return self._process.pid

    def write_users(self, passwords: Mapping[str, str]) -> None:
        """Let exactly these users in; bcrypt's cost is 4, so that tests are quick."""
        lines = (
            f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
            for name, password in passwords.items()
        )
        new = self.users_file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text("".join(lines))
        new.replace(self.users_file)

    def write_settings(self, **settings: Any) -> None:
        """Write workerd.toml: what every test needs, changed by `settings`."""
        values = {
            "cert": str(CERTS / "server.pem"),
            "key": str(CERTS / "server.key"),
            "state_dir": str(self.state_dir),
            **settings,
        }
        self.config.write_text("".join(f"{k} = {_toml(v)}\n" for k, v in values.items()))

    def start(self) -> None:
        """Start workerd and wait until it listens."""
        assert self._process is None, "workerd is running already"
        before = len(self.log())
        argv = [sys.executable, "-m", "worker_daemon", f"--config={self.config}"]
        argv += [f"--listen={self.host}:{self.port}", *self.arguments]
        with self._log.open("ab") as log:
            self._process = self.popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment()
            )
        wait_until(lambda: self._listening(before), START_TIMEOUT, self.log)

    def _listening(self, before: int) -> bool:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"workerd ended with exit code {code}:\n{self.log()}"
        _, found, rest = self.log()[before:].partition("listening on https://")
        if not found or "\n" not in rest:
            return False
        self.port = int(rest.splitlines()[0].rpartition(":")[2])
        return True

    def _environment(self) -> dict[str, str]:
        foreign = ("WORKER_", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "JOURNAL_STREAM")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return {**kept, "PYTHONUNBUFFERED": "1", **self.environment}

    def log(self) -> str:
        """Return all that workerd has written to its stderr, over all starts."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def signal(self, number: int) -> None:
        """Send a signal to workerd."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = END_TIMEOUT) -> int:
        """Wait until workerd has ended; return its exit code."""
        assert self._process is not None, "workerd is not running"
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"workerd goes on:\n{self.log()}") from None
        self._process = None
        return code

    def stop(self) -> int:
        """End workerd with SIGTERM and return its exit code; supervisor and jobs go on."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill9(self) -> None:
        """End workerd with SIGKILL; supervisor and jobs go on."""
        self.signal(signal.SIGKILL)
        self.wait()

    def restart(self) -> None:
        """Stop workerd if it runs, and start it on the same port."""
        if self._process is not None:
            self.stop()
        self.start()

    def supervisors(self) -> list[int]:
        """Return the process ids of the supervisors of this daemon's state directory."""
        wanted = os.fsencode(self.state_dir)
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                argv = _read(entry / "cmdline").split(b"\0")
                if b"worker_core.supervisor" in argv and any(wanted in word for word in argv):
                    found.append(int(entry.name))
        return found

    def clean_up(self) -> None:
        """End workerd, its supervisor and every job, whatever state they are in."""
        if self._process is not None:
            self.kill9()
        for supervisor in self.supervisors():
            for pid in [supervisor, *_descendants(supervisor)]:
                _kill(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clean_up()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, _read(task).split()):
            found += [child, *_descendants(child)]
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended meanwhile
        return b""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
