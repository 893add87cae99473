"""Restarting, stopping and killing either unit: what happens to jobs."""

import signal

from support.waiting import wait_until
from vm.guest import readme, system
from vm.guest.api import Gate, User
from vm.guest.service import BIN, PATIENCE, Service

WHEELS = readme.ROOT / "wheels"


def started(user: User, lines: dict[int, str]) -> dict[str, int]:
    """Start jobs that end with the codes that are the keys; return the codes by job."""
    jobs = {user.shell(f"{line}; exit {code}"): code for code, line in lines.items()}
    for job in jobs:
        user.leader(job)
    return jobs


def test_a_restart_of_workerd_is_noticed_by_no_job(
    service: Service, root: Service, alice: User, bob: User, gate: Gate
) -> None:
    """Settings could not be changed in the daytime."""
    of_alice = started(alice, dict.fromkeys((0, 21), gate.wait))
    of_bob = started(bob, {22: gate.wait})
    before, pid = root.pid, service.pid
    service.restart()
    assert (root.pid, service.pid != pid) == (before, True)
    gate.open(3)
    for user, jobs in ((alice, of_alice), (bob, of_bob)):
        assert {job: user.ended(job)["exit_code"] for job in jobs} == jobs


def test_what_ends_while_workerd_is_stopped_is_not_missed(
    service: Service, root: Service, alice: User, gate: Gate
) -> None:
    """Jobs belong to the supervisor, which goes on alone."""
    jobs = started(alice, {23: gate.wait})
    service.stop()
    assert service.processes() == []
    gate.open()
    wait_until(lambda: root.processes() == [root.pid], PATIENCE)
    service.start()
    assert {job: alice.ended(job)["exit_code"] for job in jobs} == jobs


def test_a_restart_of_the_supervisor_leaves_jobs_running(
    root: Service, alice: User, gate: Gate
) -> None:
    """Everything would be ended, or the end of what takes longer be made up."""
    short, long = started(alice, {24: gate.wait}), started(alice, {25: "sleep 600"})
    (job,) = long
    before, leader = root.pid, alice.leader(job)
    system.systemctl("--no-block", "restart", root.unit)
    gate.open()  # within the ten seconds of the README
    root.await_another(before)
    assert {each: alice.ended(each)["exit_code"] for each in short} == short
    assert alice.status(job)["status"] == "running"
    assert system.alive(leader)
    assert alice.ended(alice.shell("exit 26"))["exit_code"] == 26
    system.kill(leader, signal.SIGTERM)
    end = alice.ended(job)
    if end["status"] == "failed":  # Linux 6.15 and later report it
        assert (end["exit_code"], end["signal"]) == (None, signal.SIGTERM)
        return
    assert (end["status"], end["exit_code"]) == ("lost", None)
    assert "the end could not be observed" in end["reason"]


def test_a_killed_supervisor_is_replaced_and_ends_the_jobs_of_the_last(
    root: Service, alice: User, bob: User
) -> None:
    """A job that nobody can end would run until the next boot."""
    jobs = [(alice, alice.shell("sleep 600 & wait")), (bob, bob.shell("sleep 600 & wait"))]
    leaders = [user.leader(job) for user, job in jobs]
    before = root.pid
    system.kill(before, signal.SIGKILL)
    root.await_another(before)
    for user, job in jobs:
        assert user.status(job)["status"] == "running"
        assert user.kill(job, now=True)["status"] in ("killed", "lost")
    assert [pid for pid in leaders if system.alive(pid)] == []
    assert root.processes() == [root.pid]


def test_without_a_supervisor_workerd_answers_and_says_so(
    service: Service, root: Service, alice: User
) -> None:
    """Nobody could see what runs, or learn what is missing."""
    root.stop()
    assert alice.get("/whoami").json()["user"] == "alice"
    assert alice.get("/readyz").status_code == 503
    job = alice.shell("exit 27")
    assert alice.status(job, wait=2)["started_at"] is None
    root.start()
    assert alice.ended(job)["exit_code"] == 27
    wait_until(lambda: alice.get("/readyz").status_code == 200, PATIENCE)


def test_jobs_go_on_over_an_upgrade_and_keep_their_exit_codes(
    service: Service, root: Service, alice: User, gate: Gate
) -> None:
    """Whoever has to wait for the last job upgrades never."""
    before = alice.get("/version").json()["version"]
    jobs = started(alice, dict.fromkeys((0, 28, 254), gate.wait))
    pid, start = root.pid, system.argv(root.pid)
    command = ["install", "--no-index", f"--find-links={WHEELS}", "--upgrade"]
    system.run(str(BIN / "pip"), *command, "worker-core", "worker-daemon")
    system.systemctl("reload", root.unit)  # as the README says
    wait_until(lambda: system.argv(pid) not in (start, []), PATIENCE, root.journal)
    service.restart()
    assert alice.get("/version").json()["version"] not in (before, None)
    assert root.pid == pid
    assert [alice.status(job)["status"] for job in jobs] == ["running"] * 3
    gate.open(len(jobs))
    assert {job: alice.ended(job)["exit_code"] for job in jobs} == jobs
    assert alice.ended(alice.shell("id -un; exit 29"))["exit_code"] == 29
