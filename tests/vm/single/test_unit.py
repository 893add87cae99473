"""The unit as systemd sees it, and what its sandbox keeps from jobs and leaves to them."""

import re

import pytest
from vm.guest import system
from vm.guest.api import User
from vm.guest.service import Service

EXPOSURE = 5.0  # of 10; what arbitrary programs need costs most of it


def test_systemd_finds_nothing_wrong(service: Service) -> None:
    """A misspelt line would be ignored, and with it the protection that it stands for."""
    files = ["/etc/systemd/system/workerd.service", "/etc/systemd/system/workerd.socket"]
    said = system.run("systemd-analyze", "verify", "--man=no", *files).splitlines()
    assert [line for line in said if "'DelegateSubgroup'" not in line] == []


def test_its_exposure_is_bounded(service: Service) -> None:
    """A line of the sandbox could get lost without anybody noticing."""
    said = system.run("systemd-analyze", "security", "--no-pager", service.unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize(
    "line",
    [
        "echo x > /usr/local/x",
        "cat /etc/xdg/workerd/ca.key",
        "mount -t tmpfs tmpfs /tmp",
        "hostname other",
        "chrt -f 50 true",
        "cp /usr/bin/id /var/tmp/id && chmod u+s /var/tmp/id",
        "setarch i686 true",
        "python3 -c 'import socket; socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)'",
    ],
)
def test_a_job_may_not(alice: User, line: str) -> None:
    """What the unit takes away must be gone for jobs too, or it protects nothing."""
    job = alice.shell(line)
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("failed", None), alice.out(job)


@pytest.mark.parametrize(
    "line",
    [
        "echo x > $HOME/x && cat $HOME/x",
        "echo x > /var/tmp/x && echo x > /tmp/x",
        "unshare --user --map-root-user --pid --fork --mount-proc true",
        "python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 0))'",
        "python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
        "ps ax > /dev/null",
    ],
)
def test_a_job_may(alice: User, line: str) -> None:
    """Programs that people run every day must not fail for the unit's sake."""
    job = alice.shell(line)
    assert alice.ended(job)["exit_code"] == 0, alice.out(job)
