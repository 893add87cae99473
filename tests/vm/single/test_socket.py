"""systemd holds the port: workerd.socket."""

import threading
from collections.abc import Iterator

import pytest
import requests
from vm.guest import readme, system
from vm.guest.api import User
from vm.guest.service import Service

SOCKET = "workerd.socket"
COMMANDS = (  # as the README says
    "systemctl stop workerd.service",
    "systemctl enable --now workerd.socket workerd.service",
)


@pytest.fixture(scope="module", autouse=True)
def held(service: Service) -> Iterator[None]:
    """Hand the port to systemd, as the README says."""
    text = readme.README.read_text()
    for command in COMMANDS:
        assert command in text
        system.run("/bin/sh", "-ec", command)
    yield
    system.systemctl("disable", "--now", SOCKET)
    service.restart()


def test_a_connection_starts_the_service(service: Service, alice: User) -> None:
    """A server could be installed and never answer."""
    service.stop()
    assert alice.get("/whoami").json()["user"] == "alice"
    assert service.show("ActiveState") == "active"
    assert "listening on https://[::]:8443" in service.show("StatusText")


def test_nobody_is_refused_during_a_restart(service: Service, alice: User) -> None:
    """That is what the unit is for."""
    over = threading.Event()
    answers: list[object] = []

    def ask() -> None:
        while not over.is_set():
            try:
                answers.append(alice.get("/whoami").status_code)
            except requests.RequestException as error:
                answers.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(2):
        service.restart()
    over.set()
    asking.join()
    assert set(answers) == {200}
    assert len(answers) > 2


def test_a_job_has_not_inherited_the_port(service: Service, alice: User) -> None:
    """A job that holds the socket takes connections, and their passwords, from workerd."""
    job = alice.shell("ls -l /proc/self/fd; env")
    assert alice.ended(job)["exit_code"] == 0
    said = alice.out(job).decode()
    assert "socket:" not in said
    assert "LISTEN_" not in said
