"""Fixtures of every machine, as a plugin; `service` is that of the machine's folder."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vm.guest import api, marks
from vm.guest import service as services

NOTES = Path("/var/lib/vm-notes.json")


@pytest.fixture(scope="session")
def alice(service: services.Service) -> Iterator[api.User]:
    """Return a user."""
    with api.User(service, "alice") as user:
        yield user


@pytest.fixture(scope="session")
def bob(service: services.Service) -> Iterator[api.User]:
    """Return another user."""
    with api.User(service, "bob") as user:
        yield user


@pytest.fixture
def worker(service: services.Service, tmp_path: Path) -> dict[str, str]:
    """Return the environment in which the `worker` command is alice's."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "WORKER_USER": "alice",
        "WORKER_PASSWORD": services.PASSWORD,
        "WORKER_CACERT": str(service.configuration / "ca.pem"),
    }


@pytest.fixture
def gate() -> Iterator[api.Gate]:
    """Return a gate that holds jobs back."""
    made = api.Gate()
    yield made
    made.remove()


@pytest.fixture
def notes() -> Iterator[dict[str, Any]]:
    """Return what tests of earlier boots left word of, to read and to add to."""
    kept: dict[str, Any] = json.loads(NOTES.read_text()) if NOTES.exists() else {}
    yield kept
    with NOTES.open("w") as file:
        json.dump(kept, file)
        file.flush()
        os.fsync(file.fileno())  # the power may be cut next


@pytest.fixture(autouse=True)
def tidy(
    request: pytest.FixtureRequest, service: services.Service, alice: api.User, bob: api.User
) -> Iterator[None]:
    """Have each test find the service running, and no job of the one before."""
    yield
    if marks.last(request.node) or marks.boot(request.node) != "first":
        return
    if service.show("ActiveState") != "active":
        service.start()
    for user in (alice, bob):
        for job_id in user.unfinished():
            user.kill(job_id, now=True)
