"""Who a job is, and what that keeps from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from vm.guest import system
from vm.guest.api import Gate, User
from vm.guest.service import BIN, Service

DROP_IN = Path("/etc/systemd/system/worker-supervisor.service.d/root-jobs.conf")


def said(user: User, line: str, **fields: object) -> list[str]:
    """Return what a shell of a user wrote, in lines."""
    job = user.shell(line, **fields)
    user.ended(job)
    return user.out(job).decode().splitlines()


def test_each_user_has_the_account_that_the_settings_name(alice: User, bob: User) -> None:
    """A job would have the rights of somebody else."""
    for user, account in ((alice, "alice"), (bob, "jobs")):
        job = user.shell("id -un; id -ru; id -u; id -g")
        assert user.ended(job)["exit_code"] == 0
        uid, gid = (system.run("id", each, account).strip() for each in ("-u", "-g"))
        assert user.out(job).decode().split() == [account, uid, uid, gid]
        assert user.record(job)["run_as"] == account


def test_groups_home_directory_and_mask_are_those_of_the_account(alice: User, bob: User) -> None:
    """Files would be made for the wrong people, or in the wrong place."""
    line = "id -Gn; pwd; umask; echo $HOME $USER $LOGNAME $SHELL; touch of-mask; stat -c %a of-mask"
    names = "alice alice /bin/bash"
    assert said(alice, line) == [
        "alice project",
        "/home/alice",
        "0022",
        f"/home/alice {names}",
        "644",
    ]
    names = "jobs jobs /bin/bash"
    assert said(bob, line) == ["jobs", "/srv/jobs", "0022", f"/srv/jobs {names}", "644"]
    assert system.run("stat", "-c", "%U:%G", "/home/alice/of-mask").strip() == "alice:alice"


def test_a_job_has_no_rights_but_those_of_its_account(alice: User) -> None:
    """The supervisor is root, and a job could become it again."""
    line = "grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):' /proc/self/status"
    shown = dict(each.split(":\t") for each in said(alice, line))
    assert shown.pop("NoNewPrivs") == "1"
    assert set(shown.values()) == {"0" * 16}
    (told,) = said(alice, "python3 -c 'import os; os.setuid(0)' 2>&1 | tail -n 1")
    assert told == "PermissionError: [Errno 1] Operation not permitted"


def test_users_cannot_touch_one_another(alice: User, bob: User, gate: Gate) -> None:
    """Jobs of different users would be separated by the API alone."""
    system.run("runuser", "-u", "alice", "--", "sh", "-c", "echo private > /home/alice/of-alice")
    leader = alice.leader(alice.shell(gate.wait))
    for line in ("cat /home/alice/of-alice", f"kill -9 {leader}", f"cat /proc/{leader}/environ"):
        job = bob.shell(line)
        assert bob.ended(job)["status"] == "failed"
        assert b"private" not in bob.out(job)
    assert system.alive(leader)
    job = bob.run("true", cwd="/home/alice")
    reason = "cannot change to working directory /home/alice: Permission denied"
    assert bob.ended(job)["reason"] == reason


def test_the_daemons_files_are_unreadable(service: Service, alice: User, bob: User) -> None:
    """A job could read the output of others, the users and their hashes, or the key."""
    other = bob.shell("echo of bob")
    bob.ended(other)
    (spool,) = (each for each in service.state_dir.rglob("output") if other in str(each))
    assert spool.read_bytes() == b"of bob\n"
    files = [spool, service.state_dir / "supervisor.log"]
    files += [service.configuration / name for name in ("users", "server.key", "ca.key")]
    for file in files:
        assert file.exists()
        assert said(alice, f"cat {file}") == [f"cat: {file}: Permission denied"]
    assert said(alice, f"ls {service.state_dir}")[0].endswith("Permission denied")
    # Of its own output it has the descriptor, to write to and not to read from.
    assert said(alice, "echo mine; cat < /proc/self/fd/1")[0] == "mine"
    assert said(alice, "cat < /proc/self/fd/1")[0].endswith("Permission denied")
    assert said(alice, "cat <&1")[0].endswith("Bad file descriptor")


@pytest.mark.suite("trixie")
def test_a_job_cannot_raise_its_limits(alice: User) -> None:
    """A limit would be a request."""
    place = "cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)"
    lines = ("echo max > memory.max", "echo max > pids.max", "echo $$ > ../cgroup.procs", "mkdir x")
    limits = {"memory": 64 << 20, "pids": 20}
    told = said(alice, "; ".join((place, *lines, "cat memory.max")), limits=limits)
    assert [each.endswith("Permission denied") for each in told[:-1]] == [True] * len(lines)
    assert told[-1] == str(limits["memory"])


class TestRoot:
    """uid 0: only for users whom the table names, and only if the unit says so as well."""

    @pytest.fixture(autouse=True)
    def named(self, service: Service, root: Service) -> Iterator[None]:
        """Have the settings name root for alice."""
        file = service.configuration / "workerd.toml"
        before = file.read_text()
        file.write_text(before.replace('alice = "alice"', 'alice = "root"'))
        service.restart()
        yield
        file.write_text(before)
        service.restart()
        if DROP_IN.exists():
            DROP_IN.unlink()
            system.systemctl("daemon-reload")
            root.restart()

    def test_the_settings_alone_are_not_enough(self, alice: User, bob: User) -> None:
        """A workerd that was taken over would be root."""
        end = alice.ended(alice.shell("id -u"))
        assert end["status"] == "failed"
        assert end["reason"].startswith("cannot run as root: this supervisor runs no jobs as root")
        assert said(bob, "id -un") == ["jobs"]

    def test_with_the_unit_it_is_for_the_one_who_is_named(
        self, root: Service, alice: User, bob: User
    ) -> None:
        """Others would be root too, or nobody."""
        (start,) = [
            line
            for line in system.systemctl("cat", root.unit).splitlines()
            if line.startswith("ExecStart=")
        ]
        DROP_IN.parent.mkdir()
        DROP_IN.write_text(f"[Service]\nExecStart=\n{start} --root-jobs\n")
        system.systemctl("daemon-reload")
        root.restart()
        assert said(alice, "id -un; id -Gn; pwd") == ["root", "root", "/root"]
        assert said(bob, "id -un") == ["jobs"]

    def test_nobody_is_root_by_default(self, service: Service) -> None:
        """Whoever was forgotten in the table would be root."""
        file = service.configuration / "workerd.toml"
        file.write_text(file.read_text().replace('= "jobs"', '= "root"'))
        check = [str(BIN / "workerd"), "check", f"--config={file}"]
        told = system.run(*check, f"--state-dir={service.state_dir}", check=False)
        assert "run_as_default is root: root is only for users that run_as names" in told
