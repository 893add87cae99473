"""Isolation by the supervisor of root, for jobs that are accounts of their own."""

import os
import pwd
from pathlib import Path

from vm.guest.api import User
from vm.guest.service import Service

SWITCHES = ("private_network", "private_tmp", "read_only", "pid_namespace")


def said(user: User, line: str, **fields: object) -> str:
    """Return what a shell of a user wrote."""
    job = user.shell(line, **fields)
    assert user.ended(job)["status"] in ("completed", "failed")
    return user.out(job).decode()


def test_each_switch_keeps_away_what_is_there_without_it(service: Service, alice: User) -> None:
    """A switch could work for an account's own namespaces only, and not with those of root."""
    line = "cut -d: -f1 /proc/net/dev | tail -n +3; tail -n +2 /proc/net/route"
    assert said(alice, line, isolation={"private_network": True}).split() == ["lo"]
    line = "ls -A /tmp /var/tmp; touch /tmp/of-box"
    Path("/var/tmp/of-host").touch()
    told = said(alice, line, isolation={"private_tmp": True})
    assert told.split() == ["/tmp:", "/var/tmp:"]
    assert not Path("/tmp/of-box").exists()
    line = f"ls -d /proc/[0-9]* 2>/dev/null | wc -l; kill -0 {service.pid} 2>&1"
    count, _, error = said(alice, line, isolation={"pid_namespace": True}).partition("\n")
    assert int(count) <= 6
    assert "No such process" in error
    assert "Operation not permitted" in said(alice, line)


def test_read_only_spares_the_directory_and_what_is_named(alice: User) -> None:
    """A job could change more than its own results, or not even write these."""
    who = pwd.getpwnam("alice")
    for name in ("of-box", "of-box/work", "of-box/named"):
        path = Path("/home/alice", name)
        path.mkdir(mode=0o700)
        os.chown(path, who.pw_uid, who.pw_gid)
    box = {"read_only": True, "writable": ["/home/alice/of-box/named"]}
    line = "touch here ../named/there; for each in ~ /var/tmp /dev/shm; do touch $each/x; done"
    told = said(alice, line, cwd="/home/alice/of-box/work", isolation=box)
    assert told.count("Read-only file system") == 3, told
    for made in ("work/here", "named/there"):
        assert Path("/home/alice/of-box", made).owner() == "alice"


def test_a_boxed_job_is_its_account_and_has_no_way_back(alice: User) -> None:
    """A box of root could be a way to become it, or to undo the mounts."""
    lines = (
        "id -un; id -Gn; pwd",
        "grep CapEff /proc/self/status",
        "umount /tmp 2>&1 | grep -c -i -E 'must be superuser|not permitted'",
        "nsenter --net=/proc/1/ns/net true 2>&1 | grep -c -i -E 'denied|not permitted'",
        "kill -SEGV $$",
    )
    job = alice.shell("; ".join(lines), isolation=dict.fromkeys(SWITCHES, True))
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("failed", 11)
    names = ["alice", "alice project", "/home/alice"]
    assert alice.out(job).decode().splitlines() == [*names, "CapEff:\t" + "0" * 16, "1", "1"]


def test_kill_ends_all_that_is_in_a_box(alice: User) -> None:
    """Processes of another account, in another namespace, could escape."""
    isolation = dict.fromkeys(SWITCHES, True)
    job = alice.shell("setsid sleep 601 & trap '' TERM; sleep 602 & wait", isolation=isolation)
    alice.leader(job)
    assert alice.kill(job, grace=0.2)["status"] == "killed"
    lines = (each.read_bytes() for each in Path("/proc").glob("[0-9]*/cmdline"))
    assert [line for line in lines if line.startswith((b"sleep\x00601", b"sleep\x00602"))] == []
