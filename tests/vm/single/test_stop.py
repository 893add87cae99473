"""`systemctl stop workerd`, and what it leaves."""

from support.waiting import wait_until
from vm.guest.api import Gate, User
from vm.guest.service import PATIENCE, Service


def test_stop_leaves_supervisor_and_jobs_and_nothing_else(
    service: Service, alice: User, gate: Gate
) -> None:
    """An administrator has to know what still runs, and jobs have to be what is promised."""
    job = alice.shell(f"{gate.wait}; exit 41")
    leader = alice.leader(job)
    supervisor = service.supervisor
    service.stop()
    assert (service.show("ActiveState"), service.show("Result")) == ("inactive", "success")
    assert sorted(service.processes()) == sorted([supervisor, leader])
    gate.open()
    wait_until(lambda: not service.processes(), PATIENCE)
    service.start()
    assert alice.ended(job)["exit_code"] == 41


def test_stop_waits_for_no_follower(service: Service, alice: User, gate: Gate) -> None:
    """A single `worker out -f` could make each shutdown last until systemd loses patience."""
    job = alice.shell(gate.wait)
    follow = {"headers": {"Accept": "application/octet-stream"}, "stream": True}
    with alice.get(f"/jobs/{job}/out?follow=true", **follow) as answer:
        assert answer.status_code == 200
        service.stop()
    assert service.show("Result") == "success"
    service.start()
    assert alice.status(job)["status"] == "running"


def test_without_jobs_stop_leaves_nothing(service: Service) -> None:
    """A supervisor without a job or an engine would be a process that nobody asked for."""
    service.stop()
    wait_until(lambda: not service.processes() and not service.supervisors(), PATIENCE)
