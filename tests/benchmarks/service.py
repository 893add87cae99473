"""`workerd` as an administrator has it, and what it costs the machine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import bcrypt
from support import daemon
from support.waiting import wait_until

from benchmarks.client import Connection

_COST = 12  # what `workerd user add` takes


class Service(daemon.Daemon):
    """A workerd on loopback with the default settings and cost of bcrypt, but for `settings`."""

    program = ("-m", "worker_daemon")
    cost = _COST
    supervisor = 0
    """The process id of its supervisor, once it is started."""

    def write_users(self, passwords: Mapping[str, str]) -> None:
        """Let exactly these users in."""
        lines = (
            f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(self.cost)).decode()}\n"
            for name, password in passwords.items()
        )
        self.users_file.touch(mode=0o600)
        self.users_file.write_text("".join(lines))

    def start(self) -> None:
        """Start workerd and wait until it listens."""
        self.time_start()

    def time_start(self) -> float:
        """Start workerd; return the seconds until it listened."""
        before = len(self.log())
        with self._log.open("ab") as log, self._notified() as ready:
            begun = time.perf_counter()
            self._process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ()
            )
            while b"READY=1" not in ready.recv(4096):
                pass
            taken = time.perf_counter() - begun
        wait_until(lambda: self._listening(before), message=self.log)
        (self.supervisor,) = self.supervisors()
        return taken

    @contextlib.contextmanager
    def _notified(self) -> Iterator[socket.socket]:
        """Have workerd tell that it is ready as it tells systemd: nobody needs to look for it."""
        path = self.directory / "ready"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(path))
            ready.settimeout(daemon.START_TIMEOUT)
            self.environment["NOTIFY_SOCKET"] = str(path)
            try:
                yield ready
            except TimeoutError:
                raise RuntimeError(f"workerd does not start:\n{self.log()}") from None
            finally:
                path.unlink()

    @property
    def running(self) -> bool:
        """Whether workerd was started and not stopped."""
        return self._process is not None

    def argv(self) -> list[str]:
        """Return what starts it."""
        address = f"--listen={self.host}:{self.port}"
        return [sys.executable, *self.program, f"--config={self.config}", address]

    def environ(self) -> dict[str, str]:
        """Return the environment that it is started in."""
        return self._environment()

    def connect(self, source: str = "") -> Connection:
        """Return a connection of the demo user; `source` is the loopback address it comes from."""
        return Connection(self.host, self.port, self.ca, self.user, self.password, source)


class OpenService(Service):
    """The same without authentication: whoever comes is the demo user."""

    program = ("-m", "benchmarks.programs.open_workerd")


def cpu_seconds(*pids: int) -> float:
    """Return the CPU time that processes have used since they began."""
    # The clock of another process's CPU time, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def memory(pid: int) -> int:
    """Return the bytes of memory that a process has resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)
    assert found is not None, status
    return int(found[1]) << 10


def source_tree() -> dict[str, str]:
    """Return the environment for a program of this package."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
