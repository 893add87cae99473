"""The client against the real `workerd`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli_run import InProcess
from support.daemon import Daemon
from worker_cli import Client


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server for all tests that do not stop it; each test has a user of its own."""
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A server that the test may stop."""
    with Daemon(tmp_path / "daemon") as daemon:
        yield daemon


UserOf = Callable[[Daemon], InProcess]

_users: dict[str, str] = {}


@pytest.fixture
def user_of(tmp_path: Path) -> UserOf:
    """Make users with a home and the server's settings in their environment."""

    def make(daemon: Daemon) -> InProcess:
        home = tmp_path / "home"
        home.mkdir()
        return InProcess(
            home,
            WORKER_SERVER=daemon.url,
            WORKER_CACERT=str(daemon.ca),
            WORKER_USER=daemon.user,
            WORKER_PASSWORD=daemon.password,
        )

    return make


@pytest.fixture
def user(daemon: Daemon, user_of: UserOf, request: pytest.FixtureRequest) -> InProcess:
    """A user without jobs on the shared server."""
    _users[daemon.user] = daemon.password
    name = f"user-{len(_users)}"
    _users[name] = "secret"
    daemon.write_users(_users)
    user = user_of(daemon)
    user.environ |= {"WORKER_USER": name, "WORKER_PASSWORD": "secret"}
    return user


@pytest.fixture
def client(user: InProcess) -> Iterator[Client]:
    """The same user with the library."""
    environ = user.environ
    with Client(
        environ["WORKER_SERVER"],
        user=environ["WORKER_USER"],
        password=environ["WORKER_PASSWORD"],
        cacert=environ["WORKER_CACERT"],
    ) as client:
        yield client
