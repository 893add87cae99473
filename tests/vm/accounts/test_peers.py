"""Who may talk to the supervisor."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.waiting import wait_until
from vm.guest import system
from vm.guest.api import User
from vm.guest.service import PATIENCE, Service

SOCKET = "supervisor.sock"
CONNECT = """\
import os, pwd, socket, sys
who = pwd.getpwnam(sys.argv[1])
os.setgroups([])
os.setresgid(*[who.pw_gid] * 3)
os.setresuid(*[who.pw_uid] * 3)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[2])
print(len(peer.recv(1)))
"""


def connect(service: Service, account: str) -> str:
    """Connect to the supervisor as an account; return how many bytes it says, or the error."""
    command = [sys.executable, "-c", CONNECT, account, str(service.state_dir / SOCKET)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.splitlines()[-1]


@pytest.fixture
def open_door(service: Service) -> Iterator[None]:
    """Take away what keeps strangers from the socket before the supervisor is asked."""
    modes = [
        (path, path.stat().st_mode) for path in (service.state_dir, service.state_dir / SOCKET)
    ]
    for path, mode in modes:
        path.chmod(mode | 0o777)
    yield
    for path, mode in modes:
        path.chmod(mode & 0o7777)


@pytest.mark.parametrize("account", ["alice", "jobs", "nobody"])
def test_a_stranger_does_not_get_to_the_socket(service: Service, account: str) -> None:
    """Any local user, any job, could run jobs as anybody."""
    assert connect(service, account) == "PermissionError: [Errno 13] Permission denied"


@pytest.mark.parametrize("account", ["alice", "jobs", "nobody"])
def test_the_kernel_is_asked_who_connects(
    service: Service, root: Service, alice: User, open_door: None, account: str
) -> None:
    """A wrong mode of a directory would make everybody root."""
    pid = root.pid
    assert connect(service, account) == "0"
    uid = system.run("id", "-u", account).strip()
    log = service.state_dir / "supervisor.log"
    wait_until(lambda: f"refused a connection from uid {uid}\n" in log.read_text(), PATIENCE)
    assert root.pid == pid
    assert alice.ended(alice.shell("exit 3"))["exit_code"] == 3


@pytest.mark.parametrize("account", ["workerd", "root"])
def test_workerd_and_root_are_let_in(service: Service, account: str) -> None:
    """Nobody could run anything."""
    assert connect(service, account) == "1"
