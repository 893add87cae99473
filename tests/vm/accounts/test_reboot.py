"""A reboot of the machine with running and queued jobs, and what was logged until then."""

from typing import Any

import pytest
from vm.guest import system
from vm.guest.api import User
from vm.guest.service import Service


@pytest.mark.last
def test_before(service: Service, alice: User, bob: User, notes: dict[str, Any]) -> None:
    """Leave jobs behind: the test of the next boot tells what became of them."""
    service.set(max_running=2)
    running = [user.shell("exec sleep 100000") for user in (alice, bob)]
    for user, job in zip((alice, bob), running, strict=True):
        user.leader(job)
    notes["running"], notes["queued"] = running, [alice.shell("exit 7"), bob.shell("exit 8")]


@pytest.mark.boot("rebooted")
def test_running_jobs_are_lost_and_queued_ones_go_on(
    alice: User, bob: User, notes: dict[str, Any]
) -> None:
    """A job that the machine took down must not look as if it had ended by itself."""
    for user, running, queued, code in zip(
        (alice, bob), notes["running"], notes["queued"], (7, 8), strict=True
    ):
        end = user.ended(running)
        assert (end["status"], end["exit_code"], end["signal"]) == ("lost", None, None)
        assert "the machine was" in end["reason"]
        assert user.ended(queued)["exit_code"] == code
    assert system.systemctl("list-units", "--failed", "--no-legend", "--plain").split() == []


@pytest.mark.last
@pytest.mark.parametrize(
    "boot",
    [pytest.param(name, marks=pytest.mark.boot(name)) for name in ("first", "rebooted")],
)
def test_there_is_no_traceback(service: Service, root: Service, boot: str) -> None:
    """An administrator who finds one thinks that something broke, and is right."""
    written = system.journal(service.unit) + system.journal(root.unit)
    written += (service.state_dir / "supervisor.log").read_text()
    assert "Traceback" not in written
    assert "Fatal Python error" not in written
