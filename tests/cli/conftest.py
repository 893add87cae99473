"""Fixtures for the tests of the client."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli_certs import Authority, Identity
from support.cli_clock import Clock
from support.cli_run import InProcess
from support.cli_stub import Script, Stub
from worker_cli import Client
from worker_cli.net.transport import Transport

# Where the client is installed alone there is no server to talk to.
collect_ignore = [] if importlib.util.find_spec("worker_daemon") else ["real"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that the clients of these tests trust."""
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture(scope="session")
def identity(authority: Authority) -> Identity:
    """A certificate for localhost that they accept."""
    return authority.issue("good")


@pytest.fixture
def serve(identity: Identity) -> Iterator[Callable[[Script], Stub]]:
    """Start scripted servers."""
    stubs: list[Stub] = []

    def start(script: Script) -> Stub:
        stubs.append(Stub(identity, script).__enter__())
        return stubs[-1]

    yield start
    for stub in stubs:
        stub.__exit__()


@pytest.fixture
def client_of(authority: Authority) -> Iterator[Callable[[Stub], Client]]:
    """Make clients of scripted servers; their time passes only when they sleep."""
    clients: list[Client] = []

    def make(stub: Stub) -> Client:
        client = Client(stub.url, user="ann", password="secret", cacert=authority.cert)
        client.clock = Clock(client)  # type: ignore[attr-defined]
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def worker(tmp_path: Path, authority: Authority) -> InProcess:
    """A user with the login in the environment; the test names the server."""
    home = tmp_path / "home"
    home.mkdir()
    return InProcess(
        home, WORKER_USER="ann", WORKER_PASSWORD="secret", WORKER_CACERT=str(authority.cert)
    )


@pytest.fixture
def clock(worker: InProcess, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give this process that user's environment, for `main`; time passes only in `sleep`."""
    for name, value in worker.environ.items():
        monkeypatch.setenv(name, value)
    # pytest-xdist talks to its worker processes over their stdin.
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    clock = Clock()
    defaults = Transport.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "clock", lambda: clock.now)
    monkeypatch.setitem(defaults, "sleep", clock.sleep)
    return clock
