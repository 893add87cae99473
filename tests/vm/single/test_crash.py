"""SIGKILL to workerd, to the supervisor, and to both."""

import signal

from vm.guest import system
from vm.guest.api import Gate, User
from vm.guest.service import Service


def test_workerd_comes_back_and_no_job_notices(service: Service, alice: User, gate: Gate) -> None:
    """A crash of the part that faces the network must cost nobody a job."""
    job = alice.shell(f"{gate.wait}; exit 29")
    leader, before, restarts = alice.leader(job), service.pid, service.restarts
    system.kill(before, signal.SIGKILL)
    service.await_another(before)
    assert service.restarts == restarts + 1
    assert (alice.status(job)["status"], alice.leader(job)) == ("running", leader)
    gate.open()
    assert alice.ended(job)["exit_code"] == 29


def test_a_job_outlives_its_supervisor_and_its_end_is_not_made_up(
    service: Service, alice: User, gate: Gate
) -> None:
    """An exit code that nobody saw must not be called 0, nor its job be ended for it."""
    job = alice.shell(f"{gate.wait}; exit 0")
    service.replace_supervisor()
    assert alice.status(job)["status"] == "running"
    gate.open()
    end = alice.ended(job)
    if end["status"] == "completed":  # Linux 6.15 and later report it
        assert end["exit_code"] == 0
        return
    assert (end["status"], end["exit_code"]) == ("lost", None)
    assert "the end could not be observed" in end["reason"]


def test_an_orphaned_job_can_still_be_killed(service: Service, alice: User) -> None:
    """A job that nobody can end would run until the next boot."""
    job = alice.shell("sleep 600 & wait")
    group = system.cgroup_of(alice.leader(job))
    assert group.name == job
    service.replace_supervisor()
    assert alice.kill(job, now=True)["status"] in ("killed", "lost")
    assert system.cgroup_pids(group) == []


def test_both_killed_at_once_are_both_replaced(service: Service, alice: User, gate: Gate) -> None:
    """The out-of-memory killer may take both; the server has to come back by itself."""
    job = alice.shell(gate.wait)
    before = service.pid
    for pid in (service.supervisor, before):
        system.kill(pid, signal.SIGKILL)
    service.await_another(before)
    assert alice.status(job)["status"] == "running"
    gate.open()
    assert alice.ended(job)["status"] == "lost"
    another = alice.shell(f"{gate.wait}; exit 7")
    assert system.cgroup_of(alice.leader(another)).name == another
    gate.open()
    assert alice.ended(another)["exit_code"] == 7
