"""Another version installed over the running one, as `pip install --upgrade` does it."""

from vm.guest import readme, system
from vm.guest.api import Gate, User
from vm.guest.service import BIN, Service

WHEELS = readme.ROOT / "wheels"


def test_jobs_go_on_over_an_upgrade_and_keep_their_exit_codes(
    service: Service, alice: User, gate: Gate
) -> None:
    """Whoever has to wait for the last job upgrades never."""
    before = alice.get("/version").json()["version"]
    jobs = {alice.shell(f"{gate.wait}; exit {code}"): code for code in (0, 31, 254)}
    supervisor, start = service.supervisor, system.argv(service.supervisor)
    command = ["install", "--no-index", f"--find-links={WHEELS}", "--upgrade"]
    system.run(str(BIN / "pip"), *command, "worker-core", "worker-daemon")
    assert [alice.status(job)["status"] for job in jobs] == ["running"] * 3
    service.restart()
    assert alice.get("/version").json()["version"] not in (before, None)
    # The next version speaks another protocol, for which the supervisor had to execute itself.
    assert service.supervisor == supervisor
    assert system.argv(supervisor) != start
    assert [alice.status(job)["status"] for job in jobs] == ["running"] * 3
    gate.open(len(jobs))
    assert {job: alice.ended(job)["exit_code"] for job in jobs} == jobs
    another = alice.shell(f"{gate.wait}; exit 12")
    assert system.cgroup_of(alice.leader(another)).name == another
    gate.open()
    assert alice.ended(another)["exit_code"] == 12
