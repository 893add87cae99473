"""What the service and the supervisor wrote, at the end of each boot."""

import pytest
from vm.guest import system
from vm.guest.service import Service


@pytest.mark.last
@pytest.mark.parametrize(
    "boot",
    [
        pytest.param(name, marks=pytest.mark.boot(name))
        for name in ("first", "rebooted", "power_cut")
    ],
)
def test_there_is_no_traceback(service: Service, boot: str) -> None:
    """An administrator who finds one thinks that something broke, and is right."""
    written = system.journal(service.unit) + (service.state_dir / "supervisor.log").read_text()
    assert "Traceback" not in written
    assert "Fatal Python error" not in written
