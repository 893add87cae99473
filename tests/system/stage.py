"""What the demo plays on: its server, its user, and what it shows.

Only the standard library; run with the machine's own python3, before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

if sys.version_info < (3, 11):  # noqa: UP036  # this is where a user is told
    sys.exit(f"worker needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

ROOT = Path(__file__).resolve().parents[2]
CERTS = ROOT / "certs"
DISTRIBUTIONS = [ROOT / "packages" / f"worker-{name}" for name in ("core", "daemon", "cli")]
T = TypeVar("T")
PATIENCE = 30.0  # seconds, where a quiet machine needs one


class Differs(Exception):
    """Something was not as it has to be; the text says what."""


def expect(what: str, found: str, wanted: str) -> None:
    """Raise Differs unless `found` is `wanted`."""
    if found != wanted:
        raise Differs(f"{what} is {found!r} and not {wanted!r}")


def expect_in(what: str, found: str, wanted: str) -> None:
    """Raise Differs unless `wanted` is part of `found`."""
    if wanted not in found:
        raise Differs(f"{what} is {found!r} and does not say {wanted!r}")


def until(condition: Callable[[], T], what: str) -> T:
    """Return the first true value of `condition()`; raise Differs if there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Differs(f"not within {PATIENCE:g} seconds: {what}")
        time.sleep(0.02)
    return value


# What is shown


def heading(text: str) -> None:
    print(f"\n{_coloured('1', text)}\n", flush=True)


def note(text: str) -> None:
    print(f"\n  {_coloured('32', '✓')} {text}", flush=True)


def show_command(command: str) -> None:
    print(f"  {_coloured('36', f'$ {command}')}", flush=True)


def show_output(text: str) -> None:
    for line in text.splitlines():
        print(f"  {line}", flush=True)


def _coloured(code: str, text: str) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    return text if plain else f"\033[{code}m{text}\033[0m"


# What is installed


def prepare() -> Path:
    """Make `.venv` with the three distributions in it; return the directory of its commands."""
    scripts = ROOT / ".venv" / "bin"
    python, stamp = scripts / "python", ROOT / ".venv" / "installed"
    # From where, and asking for what: a moved clone or a changed dependency installs anew.
    settings = [(each / "pyproject.toml").read_text() for each in DISTRIBUTIONS]
    wanted = "\n".join([str(ROOT), *settings])
    if (scripts / "worker").exists() and stamp.exists() and stamp.read_text() == wanted:
        return scripts
    print("Installing into .venv (once; about half a minute) …", flush=True)
    if not python.exists():
        _set_up([sys.executable, "-m", "venv", ROOT / ".venv"], "is python3-venv installed?")
    editable = [word for each in DISTRIBUTIONS for word in ("-e", each)]
    _set_up([python, "-m", "pip", "install", "-q", *editable], "can this machine reach PyPI?")
    stamp.write_text(wanted)
    return scripts


def _set_up(command: list[str | Path], hint: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()
        raise Differs(f"this did not work: {shlex.join(map(str, command))} ({hint})\n\n{said}")


# Who plays


class Server:
    """workerd on a free port of loopback, with all that it keeps in one directory."""

    def __init__(self, scripts: Path, directory: Path) -> None:
        self.environ = _environ(scripts, directory)
        self.password = secrets.token_urlsafe(12)
        self.url = ""
        self._state = directory / "state"
        self._log = directory / "workerd.log"
        config = directory / "workerd.toml"
        config.touch()  # an empty one: the settings of this machine stay out of the demo
        self._who = [f"--config={config}", f"--users={directory / 'users'}"]
        self._files = [f"--cert={CERTS / 'server.pem'}", f"--key={CERTS / 'server.key'}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def add_user(self) -> None:
        """Let the user demo in."""
        show_command("workerd user add demo")
        done = subprocess.run(
            ["workerd", *self._who, "user", "add", "demo", "--password-stdin"],
            input=self.password,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        show_output(done.stderr)
        if done.returncode:
            raise Differs("workerd could not add a user")

    def start(self) -> None:
        """Start workerd, on the port that it had before if there was one, and wait for it."""
        listen = f"127.0.0.1:{self._port}"
        show_command(f"workerd --listen {listen} --cert certs/server.pem --key certs/server.key &")
        before = len(self.log_text())
        options = [f"--listen={listen}", f"--state-dir={self._state}", *self._who, *self._files]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["workerd", *options], env=self.environ, stdin=subprocess.DEVNULL, stderr=log
            )
        self.url = until(lambda: self._listening(before), "workerd accepts connections")
        self._port = int(self.url.rpartition(":")[2])
        show_output(f"listening on {self.url}")

    def _listening(self, before: int) -> str:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise Differs(f"workerd ended instead of serving, with exit code {code}")
        found = re.search(r"listening on (https://\S+)\n", self.log_text()[before:])
        return found[1] if found else ""

    def log_text(self) -> str:
        """Return what workerd has said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def crash(self) -> None:
        """End workerd so that it can tidy up nothing."""
        assert self._process is not None
        show_command("kill -KILL %workerd")
        self._process.kill()
        self._process.wait()

    def end(self, jobs: Iterable[str]) -> None:
        """End workerd, these jobs if they still run, and with the last one the supervisor."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        until(lambda: not self._left(jobs), "no process of the demo is left")

    def _left(self, jobs: Iterable[str]) -> list[int]:
        pids = [pid for job in jobs for pid in processes_of(job)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        return pids + [pid for pid, words in _proc("cmdline") if str(self._state) in words]


class User:
    """Somebody with a shell, the `worker` command, and an account on the server."""

    def __init__(self, server: Server) -> None:
        self.jobs: list[str] = []
        self._server = server
        self._environ = server.environ

    def log_in(self) -> None:
        """Say where the server is, what to trust, and who this is."""
        show_command(f"export WORKER_SERVER={self._server.url} WORKER_CACERT=certs/ca.pem")
        show_command("export WORKER_USER=demo WORKER_PASSWORD=…")
        self._environ = {
            **self._environ,
            "WORKER_SERVER": self._server.url,
            "WORKER_CACERT": str(CERTS / "ca.pem"),
            "WORKER_USER": "demo",
            "WORKER_PASSWORD": self._server.password,
        }

    def worker(self, *words: str, exit_code: int = 0) -> str:
        """Type a `worker` command; show and return what it printed."""
        show_command(shlex.join(["worker", *words]))
        done = self._worker(*words)
        show_output(done.stdout + done.stderr)
        if done.returncode != exit_code:
            raise Differs(f"`worker {words[0]}`: exit code {done.returncode}, not {exit_code}")
        return done.stdout + done.stderr

    def run(self, *words: str) -> str:
        """Create a job; return its id."""
        job = self.worker("run", *words).removesuffix("\n")
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", job):
            raise Differs("`worker run` has to print an id, and nothing else")
        self.jobs.append(job)
        return job

    def wait(self, job: str, status: str) -> None:
        """Wait, without showing it, until the job has this status."""
        until(lambda: self._worker("status", job).stdout.startswith(status), f"a job is {status}")

    def output(self, job: str) -> str:
        """Return a job's output without showing it."""
        return self._worker("out", job).stdout

    def _worker(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["worker", *words],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Differs(f"`worker {words[0]}`: no end after {PATIENCE:g} seconds") from None


def _environ(scripts: Path, directory: Path) -> dict[str, str]:
    """Return the environment without what would lead elsewhere: settings, and proxies."""
    led = re.compile(r"WORKER_|XDG_|\w+_proxy$", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not led.match(name)}
    own = {f"XDG_{name}_HOME": str(directory) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
    return {**kept, **own, "PATH": f"{scripts}:{os.environ.get('PATH', os.defpath)}"}


def processes_of(job: str) -> list[int]:
    """Return the pids of everything on this machine that the job started, and of itself."""
    return sorted(pid for pid, words in _proc("environ") if f"WORKER_JOB_ID={job}" in words)


def _proc(name: str) -> Iterator[tuple[int, list[str]]]:
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (directory / name).read_text(errors="surrogateescape").split("\0")
            yield int(directory.name), words
