"""The two units as systemd sees them: one with rights and no network, one the other way round."""

import re
import subprocess
from pathlib import Path

import pytest
from vm.guest import system
from vm.guest.service import Service

UNITS = Path("/etc/systemd/system")
# Of 10. The supervisor's jobs have all that it has not, so that most of it stays; workerd's has to
# do with the network and with Python.
EXPOSURES = {"workerd.service": 2.0, "worker-supervisor.service": 6.5}
# Linux's numbers of the capabilities that worker-supervisor.service leaves (capabilities(7)).
RIGHTS = {
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "net_admin": 12,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_resource": 24,
}


def test_systemd_finds_nothing_wrong(service: Service) -> None:
    """A misspelt line would be ignored, and with it the protection that it stands for."""
    files = [str(UNITS / name) for name in EXPOSURES]
    said = system.run("systemd-analyze", "verify", "--man=no", *files).splitlines()
    assert [line for line in said if "'DelegateSubgroup'" not in line] == []


@pytest.mark.parametrize("unit", EXPOSURES)
def test_the_exposure_is_bounded(service: Service, unit: str) -> None:
    """A line of the sandbox could get lost without anybody noticing."""
    said = system.run("systemd-analyze", "security", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= EXPOSURES[unit]


def test_both_are_there_after_a_boot(service: Service, root: Service) -> None:
    """After a power cut, workerd would look for a supervisor for ever."""
    for each in (service, root):
        assert each.show("ActiveState") == "active"
        assert system.systemctl("is-enabled", each.unit).strip() == "enabled"


def test_the_supervisor_is_what_is_left_of_root(service: Service, root: Service) -> None:
    """Root with all its rights would be more than running jobs takes."""
    assert root.pid == service.supervisor
    assert system.status(root.pid, "Uid").split()[0] == "0"
    bits = sum(1 << number for number in RIGHTS.values())
    for field in ("CapBnd", "CapPrm"):
        assert int(system.status(root.pid, field), 16) == bits
    assert system.status(root.pid, "NoNewPrivs") == "1"


def test_the_supervisor_has_no_socket_of_a_network(root: Service) -> None:
    """What is root must not listen to anybody but workerd."""
    fds = Path(f"/proc/{root.pid}/fd").iterdir()
    sockets = {link for link in (str(fd.readlink()) for fd in fds) if link.startswith("socket:")}
    unix = Path(f"/proc/{root.pid}/net/unix").read_text()
    assert sockets
    assert [each for each in sockets if f" {each[8:-1]}" not in unix] == []


def test_workerd_has_no_rights(service: Service) -> None:
    """Whoever breaks into what faces the network would own the machine."""
    uid = system.run("id", "-u", "workerd").strip()
    assert system.status(service.pid, "Uid").split() == [uid] * 4
    for field in ("CapBnd", "CapPrm", "CapEff"):
        assert int(system.status(service.pid, field), 16) == 0
    assert service.processes() == [service.pid]


@pytest.mark.parametrize("path", ["/srv/worker", "/etc/xdg/workerd", "/home", "/var/tmp"])
def test_workerd_writes_nowhere_but_in_its_state(service: Service, path: str) -> None:
    """A workerd that was taken over could plant files for jobs and people."""
    inside = ["nsenter", f"--mount=/proc/{service.pid}/ns/mnt", "--", "touch"]
    assert subprocess.run([*inside, f"{service.state_dir}/x"], check=False).returncode == 0
    found = subprocess.run([*inside, f"{path}/x"], capture_output=True, text=True, check=False)
    if path == "/var/tmp":  # its own
        assert not Path("/var/tmp/x").exists()
    else:
        assert "Read-only file system" in found.stderr, found
