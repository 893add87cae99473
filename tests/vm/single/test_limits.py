"""Limits that need a controller: where systemd leaves room for them, and where it cannot."""

import pytest
from vm.guest import system
from vm.guest.api import Gate, User
from vm.guest.service import Service

LIMITS = {"memory": 64 << 20, "cpus": 0.5, "pids": 10}


@pytest.mark.suite("trixie")
def test_a_limited_job_goes_on_over_a_restart(service: Service, alice: User, gate: Gate) -> None:
    """Limits must not be what keeps systemd from starting the service again."""
    job = alice.shell(f"{gate.wait}; exit 13", limits=LIMITS)
    group = system.cgroup_of(alice.leader(job))
    service.restart()
    assert alice.record(job)["enforced"] == dict.fromkeys(LIMITS, "cgroup")
    assert (group / "memory.max").read_text() == f"{LIMITS['memory']}\n"
    gate.open()
    assert alice.ended(job)["exit_code"] == 13


@pytest.mark.suite("trixie")
def test_another_supervisor_limits_jobs_too(service: Service, alice: User) -> None:
    """After one crash or upgrade every job with limits would be refused, or run without a group."""
    service.replace_supervisor()
    assert alice.ended(alice.shell("true"))["status"] == "completed"
    job = alice.shell("exit 17", limits=LIMITS)
    assert alice.ended(job)["exit_code"] == 17
    assert alice.record(job)["enforced"] == dict.fromkeys(LIMITS, "cgroup")


@pytest.mark.suite("bookworm")
def test_an_older_systemd_makes_limits_refused_with_the_cure(alice: User) -> None:
    """Somebody would believe in a limit that nobody holds, and look long for the reason."""
    job = {"command": "true", "limits": LIMITS}
    answer = alice.post("/jobs/run", json=job)
    assert answer.status_code == 422
    told = {each["field"]: each["message"] for each in answer.json()["errors"]}
    assert set(told) == {f"limits.{name}" for name in LIMITS}
    assert all(
        "DelegateSubgroup=worker-main (systemd 254 or later)" in each for each in told.values()
    )
