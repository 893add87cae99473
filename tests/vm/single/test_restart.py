"""`systemctl restart workerd`, as it is typed after each change of the settings."""

import subprocess
from pathlib import Path

from support.waiting import wait_until
from vm.guest import system
from vm.guest.api import Gate, User
from vm.guest.service import PATIENCE, Service


def test_jobs_go_on_over_restarts_and_keep_their_exit_codes(
    service: Service, alice: User, gate: Gate
) -> None:
    """A restart that ends jobs, or forgets how they ended, cannot be done in the daytime."""
    jobs = {alice.shell(f"{gate.wait}; exit {code}"): code for code in (0, 1, 37, 255)}
    supervisor = service.supervisor
    for _ in range(2):
        before = service.pid
        service.restart()
        assert service.pid != before
    assert service.supervisor == supervisor
    assert [alice.status(job)["status"] for job in jobs] == ["running"] * 4
    gate.open(len(jobs))
    assert {job: alice.ended(job)["exit_code"] for job in jobs} == jobs


def test_an_end_during_a_restart_is_not_missed(service: Service, alice: User, gate: Gate) -> None:
    """A job that ends while nobody serves would stay "running", or be "lost"."""
    jobs = [alice.shell(f"{gate.wait}; exit 23"), alice.shell(f"{gate.wait}; kill -9 $$")]
    service.stop()
    gate.open(len(jobs))
    pids = service.processes
    wait_until(lambda: not pids(), PATIENCE, lambda: str([system.argv(pid) for pid in pids()]))
    service.start()
    outcomes = [alice.ended(job) for job in jobs]
    assert [(each["status"], each["exit_code"]) for each in outcomes] == [
        ("failed", 23),
        ("failed", None),
    ]
    assert outcomes[1]["signal"] == 9


def test_somebody_who_follows_a_job_is_still_there_after_a_restart(
    service: Service, alice: User, gate: Gate, worker: dict[str, str], tmp_path: Path
) -> None:
    """`worker run --wait make` in a terminal would end, or miss output, at each restart."""
    with (tmp_path / "output").open("wb") as output:
        line = f"echo before; {gate.wait}; echo after; exit 3"
        following = subprocess.Popen(
            ["/opt/tests/bin/worker", "run", "--wait", "--shell", line], env=worker, stdout=output
        )
        wait_until(lambda: (tmp_path / "output").read_bytes() == b"before\n", PATIENCE)
        service.restart()
        gate.open()
        assert following.wait(PATIENCE) == 3
    assert (tmp_path / "output").read_bytes() == b"before\nafter\n"
