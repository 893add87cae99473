"""What systemd and the daemon tell each other, and the units that are shipped."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import worker_daemon
from worker_daemon import systemd

UNITS = Path(worker_daemon.__file__).with_name("systemd")


@pytest.fixture(autouse=True)
def no_manager(monkeypatch):
    """A process that nobody manages."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["/{}/notify", "@worker-test-{}"])
def test_messages_arrive_at_both_kinds_of_sockets(tmp_path, monkeypatch, name):
    """systemd would wait for the readiness of a daemon that serves already."""
    path = name.format(tmp_path if name[0] == "/" else os.getpid()).replace("//", "/")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path[1:] if path[0] == "@" else path)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        systemd.notify("READY=1", "STATUS=x")
        assert manager.recv(100) == b"READY=1\nSTATUS=x"


def test_nobody_listening_is_no_error(tmp_path, monkeypatch):
    """The daemon would not start without systemd, or end with its manager."""
    systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    systemd.notify("READY=1")


def test_the_watchdog_is_fed_twice_as_often_as_asked(monkeypatch):
    """systemd would kill a daemon that is only busy."""
    assert systemd.watchdog_interval() is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert systemd.watchdog_interval() == 15.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_interval() == 15.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_interval() is None


def test_sockets_meant_for_another_process_are_left_alone(monkeypatch):
    """A daemon started by a service with sockets would take the service's."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert systemd.sockets() == []
    assert "LISTEN_FDS" not in os.environ


def test_sockets_are_taken_and_kept_from_children():
    """Jobs would inherit the listening socket, or the announcement of one."""
    script = (
        "import os, sys; from worker_daemon import systemd; os.environ['LISTEN_PID'] = "
        "str(os.getpid()); sock, = systemd.sockets(); print(sock.fileno(), sock.get_inheritable(),"
        "sorted(set(os.environ) & {'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES'}))"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        launch = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.executable, sys.argv[2:])"
        )
        argv = [sys.executable, "-c", launch, str(server.fileno()), sys.executable, "-c", script]
        done = subprocess.run(
            argv,
            pass_fds=[server.fileno()],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "3 False []\n"


# The units


@pytest.fixture
def units(tmp_path):
    """The units, with a workerd that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/worker/bin/workerd", sys.executable)
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_finds_nothing_wrong_with_the_units(units):
    """A misspelt line would be ignored, and with it the protection that it stands for."""
    files = [str(units / "workerd.service"), str(units / "workerd.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    # Older than 254, it ignores the line that limits need; workerd then refuses limits.
    said = [each for each in done.stderr.splitlines() if "'DelegateSubgroup'" not in each]
    assert (done.returncode, said) == (0, [])


def test_systemd_calls_the_sandbox_no_worse_than_ok(units):
    """A line of the sandbox could get lost without anybody noticing."""
    file = str(units / "workerd.service")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=50", "--no-pager", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_service_leaves_jobs_alone_and_is_told_of_its_own_files():
    """A restart would end all jobs, or look for settings where there are none."""
    text = (UNITS / "workerd.service").read_text()
    for line in (
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "DelegateSubgroup=worker-main",
        "OOMPolicy=continue",
        "StateDirectory=workerd",
        "ConfigurationDirectory=xdg/workerd",
        "LoadCredential=server.key:/etc/xdg/workerd/server.key",
    ):
        assert f"\n{line}\n" in text
