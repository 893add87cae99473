"""A reboot of the machine with running and queued jobs, orderly and by a power cut."""

from typing import Any

import pytest
from vm.guest import system
from vm.guest.api import User
from vm.guest.service import Service

BOOTS = [
    pytest.param(name, marks=pytest.mark.boot(name), id=name) for name in ("rebooted", "power_cut")
]


@pytest.mark.last
@pytest.mark.parametrize(
    "boot",
    [
        pytest.param("rebooted", marks=pytest.mark.boot("first")),
        pytest.param("power_cut", marks=pytest.mark.boot("rebooted")),
    ],
)
def test_before(service: Service, alice: User, notes: dict[str, Any], boot: str) -> None:
    """Leave jobs behind: the tests of the next boot tell what became of them."""
    service.set(max_running=2)
    done = alice.shell("echo kept; exit 9")
    alice.ended(done)
    running = [alice.shell("echo begun; exec sleep 100000") for _ in range(2)]
    queued = {alice.shell(f"exit {code}"): code for code in (7, 8)}
    assert [alice.status(job)["status"] for job in running] == ["running"] * 2
    assert [alice.status(job)["status"] for job in queued] == ["queued"] * 2
    notes[boot] = {"done": done, "running": running, "queued": queued}


@pytest.mark.parametrize("boot", BOOTS)
def test_the_service_is_there_after_the_boot(service: Service, boot: str) -> None:
    """Nobody is there at night to start it."""
    assert service.show("ActiveState") == "active"
    assert system.systemctl("list-units", "--failed", "--no-legend", "--plain").split() == []


@pytest.mark.parametrize("boot", BOOTS)
def test_running_jobs_are_lost_with_the_reason(
    alice: User, notes: dict[str, Any], boot: str
) -> None:
    """A job that the machine took down must not look as if it had ended by itself."""
    for job in notes[boot]["running"]:
        end = alice.ended(job)
        assert (end["status"], end["exit_code"], end["signal"]) == ("lost", None, None)
        assert "the machine was" in end["reason"]
        if boot == "rebooted":  # a power cut takes what was not written to the disk yet
            assert alice.out(job) == b"begun\n"


@pytest.mark.parametrize("boot", BOOTS)
def test_queued_jobs_go_on(alice: User, notes: dict[str, Any], boot: str) -> None:
    """What was accepted is run, whatever happened in between."""
    queued = notes[boot]["queued"]
    assert {job: alice.ended(job)["exit_code"] for job in queued} == queued


@pytest.mark.parametrize("boot", BOOTS)
def test_finished_jobs_keep_their_outcome(alice: User, notes: dict[str, Any], boot: str) -> None:
    """The record of a job is for those who come the next morning."""
    job = notes[boot]["done"]
    assert (alice.status(job)["status"], alice.status(job)["exit_code"]) == ("failed", 9)
    if boot == "rebooted":
        assert alice.out(job) == b"kept\n"
