"""One machine with the single, unprivileged unit, set up as the README of worker-daemon says."""

import pytest
from vm.guest import service as services


@pytest.fixture(scope="session")
def service() -> services.Service:
    """Return the running service, installed in the first boot."""
    found = services.Service()
    if not found.configuration.exists():
        services.install()
    return found
