"""Limits that controllers hold: each seen biting, and told in the job's record."""

import textwrap

import pytest
from vm.guest import system
from vm.guest.api import User
from vm.guest.service import Service

pytestmark = pytest.mark.suite("trixie")

MEMORY = 64 << 20
HOG = f"python3 -c 'x = b\"x\" * {4 * MEMORY}'"
BUSY = "import time\nwhile time.process_time() < 4: pass"
FORKS = textwrap.dedent("""\
    import os, signal
    try:
        for children in range(100):
            if os.fork() == 0:
                signal.pause()
    except OSError as error:
        print(children, error.strerror)
""")
RATE = 2 << 20
MOVED = 3 * RATE
DD = "dd if={} of={} bs=64k count=96 {}flag=direct"


def test_a_memory_hog_is_out_of_memory(alice: User) -> None:
    """It would take the memory of all others, or half of it would go on."""
    job = alice.shell(f"{HOG}; echo still here", limits={"memory": MEMORY})
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("out_of_memory", 9)
    assert end["reason"] == f"out of memory: it needed more than its limit of {MEMORY} bytes"
    assert alice.out(job) == b""
    assert alice.record(job)["enforced"] == {"memory": "cgroup"}
    assert MEMORY / 2 < end["usage"]["max_rss_bytes"] <= MEMORY


def test_sigkill_alone_is_not_out_of_memory(alice: User) -> None:
    """A user would ask for more memory, and the job would fail again."""
    job = alice.shell("kill -9 $$", limits={"memory": MEMORY})
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("failed", 9)
    assert "memory" not in end["reason"]
    job = alice.shell("echo ready; exec sleep 600", limits={"memory": MEMORY})
    alice.leader(job)
    assert alice.kill(job, now=True)["status"] == "killed"


def test_a_hog_in_a_box_is_out_of_memory(alice: User) -> None:
    """With two processes in between, nobody might learn why the program ended."""
    box = {"pid_namespace": True}
    job = alice.shell(f"{HOG}; echo still here", limits={"memory": MEMORY}, isolation=box)
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("out_of_memory", 9)
    assert alice.out(job) == b""


@pytest.mark.parametrize(
    ("limits", "least", "most"), [({"cpus": 0.5}, 0.4, 0.55), ({}, 0.8, 1.1)], ids=str
)
def test_a_busy_loop_gets_its_share(
    alice: User, limits: dict[str, float], least: float, most: float
) -> None:
    """One user could have all processors; without a limit he shall have one."""
    job = alice.run("python3", "-c", BUSY, limits=limits)
    used = alice.ended(job)["usage"]
    share = (used["user_seconds"] + used["system_seconds"]) / used["wall_seconds"]
    assert least < share < most
    assert alice.record(job)["enforced"] == dict.fromkeys(limits, "cgroup")


def test_a_loop_of_forks_comes_to_an_end(alice: User) -> None:
    """A fork bomb would leave no process for anybody."""
    job = alice.run("python3", "-c", FORKS, limits={"pids": 10})
    end = alice.ended(job)
    assert alice.out(job) == b"9 Resource temporarily unavailable\n"
    assert end["usage"]["max_processes"] == 10
    assert alice.record(job)["enforced"] == {"pids": "cgroup"}


def test_a_box_costs_none_of_the_processes(alice: User) -> None:
    """The two processes that keep a box would be taken from those of the job."""
    job = alice.run("python3", "-c", FORKS, limits={"pids": 10}, isolation={"pid_namespace": True})
    end = alice.ended(job)
    assert alice.out(job) == b"9 Resource temporarily unavailable\n"
    assert end["usage"]["max_processes"] == 10


@pytest.mark.parametrize("way", ["write", "read"])
def test_the_disk_is_shared(service: Service, alice: User, way: str) -> None:
    """One job could keep all others from the disk."""
    file = "/srv/worker/of-io"
    words = ("/dev/zero", file, "o") if way == "write" else (file, "/dev/null", "i")
    line = DD.format(*words)
    free = alice.ended(alice.shell(line))["usage"]
    job = alice.shell(line, limits={"io": {way: RATE}})
    slowed = alice.ended(job)
    assert slowed["exit_code"] == 0, alice.out(job)
    assert alice.record(job)["enforced"] == {"io": "cgroup"}
    assert slowed["usage"]["wall_seconds"] > max(0.8 * MOVED / RATE, 1.5 * free["wall_seconds"])
    counted = {"write": "written_bytes", "read": "read_bytes"}[way]
    assert slowed["usage"][counted] >= MOVED


def test_the_smallest_limits_hit_the_job_alone(service: Service, alice: User) -> None:
    """Whoever asks for next to nothing could end or stall the supervisor of all."""
    supervisor = service.supervisor
    job = alice.run("true", limits={"memory": 4096})
    assert alice.ended(job)["status"] == "out_of_memory"
    job = alice.run("true", limits={"pids": 1})
    assert (alice.ended(job)["exit_code"], alice.record(job)["reason"]) == (0, None)
    assert alice.ended(job)["usage"]["max_processes"] == 1
    assert service.supervisor == supervisor
    assert system.cgroup_of(supervisor).name == "worker-main"


def test_a_group_goes_with_its_job(service: Service, alice: User) -> None:
    """Thousands of jobs would leave thousands of groups."""
    job = alice.shell("mkdir -p /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/own; sleep 600")
    group = system.cgroup_of(alice.leader(job))
    assert group.name == job
    alice.kill(job, now=True)
    assert not group.exists()
    assert [each.name for each in group.parent.iterdir() if each.is_dir()] == []
