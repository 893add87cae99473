"""Limits of jobs that are accounts of their own, by the supervisor of root."""

import pytest
from support.waiting import wait_until
from vm.guest import system
from vm.guest.api import Gate, User
from vm.guest.service import PATIENCE, Service

LIMITS = {"memory": 64 << 20, "cpus": 0.5, "pids": 10, "io": {"write": 1 << 20}}
HOG = f"x = b'x' * {4 * LIMITS['memory']}"  # type: ignore[operator]


@pytest.mark.suite("trixie")
def test_limits_hold_and_are_told(root: Service, alice: User, gate: Gate) -> None:
    """What is counted in a group of root could be out of reach for workerd."""
    job = alice.shell(f'{gate.wait}; python3 -c "{HOG}"; echo here', limits=LIMITS)
    group = system.cgroup_of(alice.leader(job))
    assert (group.name, root.cgroup in group.parents) == (job, True)
    assert (group / "cpu.max").read_text() == "50000 100000\n"
    assert (group / "pids.max").read_text() == "10\n"
    assert "wbps=1048576" in (group / "io.max").read_text()
    live = alice.status(job)["usage"]
    assert live["max_processes"] == 1
    gate.open()
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("out_of_memory", 9)
    assert alice.record(job)["enforced"] == dict.fromkeys(LIMITS, "cgroup")
    assert end["usage"]["max_rss_bytes"] > live["max_rss_bytes"]
    assert not group.exists()


@pytest.mark.suite("trixie")
def test_the_service_starts_again_beside_a_limited_job(
    root: Service, alice: User, gate: Gate
) -> None:
    """systemd cannot start a process in a group that hands controllers down."""
    job = alice.shell(gate.wait, limits=LIMITS)
    leader, before = alice.leader(job), root.pid
    system.kill(before, 9)
    root.await_another(before)
    wait_until(lambda: alice.status(job)["status"] == "running", PATIENCE)
    assert alice.leader(job) == leader
    another = alice.shell("exit 5", limits=LIMITS)
    assert alice.ended(another)["exit_code"] == 5
    assert alice.record(another)["enforced"] == dict.fromkeys(LIMITS, "cgroup")


@pytest.mark.suite("bookworm")
def test_an_older_systemd_makes_limits_refused_with_the_cure(service: Service, alice: User) -> None:
    """Somebody would believe in a limit that nobody holds."""
    answer = alice.post("/jobs/run", json={"command": "true", "limits": LIMITS})
    assert answer.status_code == 422
    assert "DelegateSubgroup=worker-main (systemd 254 or later)" in answer.text
