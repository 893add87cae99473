"""The end of a tree, by the job's control group."""

from pathlib import Path

from support.waiting import wait_until
from vm.guest import system
from vm.guest.api import Gate, User
from vm.guest.service import PATIENCE, Service

# Takes off the mark by which a tree is found without a control group, leaves the session, and
# never stays in one process for long: whoever looks for it in /proc comes too late.
HOPPER = """\
import os, resource, signal, sys, time
_, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(signum, signal.SIG_IGN)
if os.fork() == 0:
    resource.setrlimit(resource.RLIMIT_RTTIME, (hard, hard))
    os.setsid()
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()
print("hopping", flush=True)
"""
STAY = "signal.pause()"
LEAVE = "open(sys.argv[1]).readline(); sys.exit(5)"


def test_each_job_has_a_group_of_its_own(service: Service, alice: User) -> None:
    """Whatever a job does, its processes can be told from all others."""
    job = alice.shell("sleep 600 & sleep 600")
    group = system.cgroup_of(alice.leader(job))
    assert group.name == job
    assert service.cgroup in group.parents
    wait_until(lambda: len(system.cgroup_pids(group)) == 3, PATIENCE)
    alice.kill(job, now=True)
    assert not group.exists()


def test_kill_reaches_what_hides_and_flees(alice: User) -> None:
    """What escapes a kill goes on for ever, with nobody who knows of it."""
    job = alice.run("python3", "-c", HOPPER + STAY)
    group = _hopping(alice, job)
    assert alice.kill(job, grace=0.2)["status"] == "killed"
    assert not group.exists()


def test_the_end_of_the_leader_is_the_end_of_its_tree(alice: User, gate: Gate) -> None:
    """A job leaves nothing running, and its exit code is not changed by that."""
    job = alice.run("python3", "-c", HOPPER + LEAVE, str(gate.path))
    group = _hopping(alice, job)
    gate.open()
    end = alice.ended(job)
    assert (end["status"], end["exit_code"]) == ("failed", 5)
    assert not group.exists()


def test_a_stopped_tree_is_ended_too(alice: User) -> None:
    """SIGSTOP would be a way to survive."""
    job = alice.shell("trap '' TERM; (trap '' TERM; kill -STOP $$; sleep 600) & sleep 600")
    group = system.cgroup_of(alice.leader(job))
    assert alice.kill(job, grace=0.2)["status"] == "killed"
    assert not group.exists()


def _hopping(alice: User, job: str) -> Path:
    """Return the group of a job once its tree is on the run."""
    wait_until(lambda: alice.out(job) == b"hopping\n", PATIENCE)
    group = system.cgroup_of(alice.leader(job))
    wait_until(lambda: len(system.cgroup_pids(group)) > 1, PATIENCE)
    return group
