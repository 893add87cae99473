"""Isolation in a service without privileges: each switch keeps away what is there without it."""

import os
import subprocess
from pathlib import Path

import pytest
from vm.guest.api import User
from vm.guest.service import Service

TALK = "import socket; socket.create_connection(('127.0.0.1', 8443), 30)"
VISIBLE = "ls -d /proc/[0-9]* 2>/dev/null | wc -l"


def said(alice: User, line: str, **isolation: object) -> tuple[int, str]:
    """Return exit code and output of a shell in a box."""
    job = alice.shell(line, isolation=isolation)
    end = alice.ended(job)
    return end["exit_code"], alice.out(job).decode()


def test_a_private_network_has_no_way_out(alice: User) -> None:
    """A job could reach the network of the server, and what listens on its loopback."""
    line = f'python3 -c "{TALK}" && tail -n +2 /proc/net/route | wc -l && ls /sys/class/net'
    code, shown = said(alice, f'python3 -c "{TALK}"')
    assert code == 0, shown
    code, shown = said(alice, line, private_network=True)
    assert code == 1
    assert "Connection refused" in shown
    code, shown = said(alice, "tail -n +2 /proc/net/route; cut -d: -f1 /proc/net/dev | tail -n +3",
                       private_network=True)  # fmt: skip
    assert (code, shown.split()) == (0, ["lo"])


def test_other_processes_are_invisible(service: Service, alice: User) -> None:
    """The command lines of others, and what they have in them, could be read."""
    code, shown = said(alice, f"{VISIBLE}; kill -0 {service.pid}")
    assert (code, int(shown) > 10) == (0, True)
    code, shown = said(alice, f"{VISIBLE}; kill -0 {service.pid} 2>/dev/null", pid_namespace=True)
    assert (code, int(shown) <= 6) == (1, True)


def test_host_files_are_unwritable(alice: User) -> None:
    """A job could change more than its own results."""
    for directory in ("of-box", "of-box/more", "of-box/else"):
        path = Path("/srv/worker", directory)
        path.mkdir()
        os.chown(path, *_owner("/srv/worker"))
    line = (
        "cd /srv/worker/of-box/more && touch here && touch ../else/named;"
        "for each in $HOME /var/tmp /tmp /dev/shm; do touch $each/of-box-file && echo $each; done"
    )
    box = {"read_only": True, "writable": ["/srv/worker/of-box/else"]}
    job = alice.shell(line, cwd="/srv/worker/of-box/more", isolation=box)
    alice.ended(job)
    shown = alice.out(job).decode()
    assert shown.count("Read-only file system") == 4, shown
    assert Path("/srv/worker/of-box/more/here").exists()
    assert Path("/srv/worker/of-box/else/named").exists()
    code, shown = said(alice, "touch $HOME/of-box-file")
    assert code == 0, shown


def test_a_private_tmp_is_empty_and_goes_with_the_job(alice: User) -> None:
    """A job could read what others put there, or leave its own for ever."""
    line = "ls -A /tmp /var/tmp; touch /tmp/of-{0} /var/tmp/of-{0}"
    code, shown = said(alice, line.format("all"))
    assert code == 0, shown
    code, shown = said(alice, line.format("box"), private_tmp=True)
    assert (code, shown.split()) == (0, ["/tmp:", "/var/tmp:"])
    for directory in ("/tmp", "/var/tmp"):
        assert Path(directory, "of-all").exists()
        assert not Path(directory, "of-box").exists()


@pytest.mark.parametrize(("line", "code"), [("exit 43", 43), ("kill -SEGV $$", 128 + 11)])
def test_the_end_is_exact_in_a_box(worker: dict[str, str], line: str, code: int) -> None:
    """A script that runs its jobs with `--isolate` would not learn what became of them."""
    command = ["/opt/tests/bin/worker", "run", "--isolate", "--wait", "--shell", line]
    done = subprocess.run(command, env=worker, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr


def _owner(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_uid, found.st_gid
