"""One machine with both units, where each user has an account, as the README of worker-daemon says.

alice is named in the table and has the account alice, bob has that of everybody else.
"""

from collections.abc import Iterator

import pytest
from vm.guest import readme, system
from vm.guest import service as services


@pytest.fixture(scope="session")
def service() -> services.Service:
    """Return workerd, which has run before as the single unit."""
    found = services.Service()
    if not found.configuration.exists():
        services.install()
        _add_accounts()
        services.give_accounts()
    return found


@pytest.fixture(scope="session")
def root(service: services.Service) -> services.Service:
    """Return the service of root that runs the jobs."""
    return services.Service(readme.SUPERVISOR)


def _add_accounts() -> None:
    system.run("groupadd", "project")
    useradd = ("useradd", "--create-home", "--key", "HOME_MODE=0700", "--shell", "/bin/bash")
    system.run(*useradd, "--groups", "project", "alice")
    system.run(*useradd, "--system", "--home-dir", "/srv/jobs", "jobs")


@pytest.fixture(autouse=True)
def with_supervisor(root: services.Service) -> Iterator[None]:
    """Have each test find the supervisor running."""
    yield
    if root.show("ActiveState") != "active":
        root.start()
