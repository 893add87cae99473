"""The interface between systemd and the daemon, and the units."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import worker_daemon
from worker_core import DescriptorStore
from worker_daemon import errors, systemd

UNITS = Path(worker_daemon.__file__).with_name("systemd")


@pytest.fixture(autouse=True)
def no_manager(monkeypatch):
    """A process without a service manager."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["/{}/notify", "@worker-test-{}"])
def test_messages_arrive_at_both_kinds_of_sockets(tmp_path, monkeypatch, name):
    """systemd would wait for the readiness of a daemon that is already serving."""
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


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "\N{SUPERSCRIPT TWO}"])
def test_numbers_that_systemd_never_gives_are_ignored(monkeypatch, text):
    """A variable that another program has set would cause a traceback."""
    monkeypatch.setenv("WATCHDOG_USEC", text)
    monkeypatch.setenv("LISTEN_FDS", text)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert systemd.watchdog_interval() is None
    assert DescriptorStore.passed() == []


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_does_not_listen_is_refused(kind):
    """The daemon would report that it listens, but nobody could connect."""
    with (
        socket.socket(socket.AF_INET, kind) as other,
        pytest.raises(
            errors.ListenError,
            match="it does not listen for TCP connections; it comes from ListenSt",
        ),
    ):
        systemd.sockets([("", other.fileno())])


def test_sockets_meant_for_another_process_are_left_alone(monkeypatch):
    """A daemon started by a service with sockets would take the service's."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert systemd.sockets(DescriptorStore.passed()) == []
    assert "LISTEN_FDS" not in os.environ


def test_sockets_are_taken_and_kept_from_children():
    """Jobs would inherit the listening socket, or the announcement of one."""
    script = (
        "import os, sys; from worker_daemon import systemd; os.environ['LISTEN_PID'] = "
        "str(os.getpid()); from worker_core import DescriptorStore; "
        "sock, = systemd.sockets(DescriptorStore.passed());"
        "print(sock.fileno(), sock.get_inheritable(),"
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
        text = unit.read_text()
        for program in ("/opt/worker/bin/workerd", "/opt/worker/bin/python"):
            text = text.replace(program, sys.executable)
        (tmp_path / unit.name).write_text(text)
    return tmp_path


@pytest.fixture
def two_units(units):
    """The units as they are installed when root's supervisor runs the jobs."""
    drop_in = units / "workerd.service.d" / "worker-supervisor.conf"
    drop_in.parent.mkdir()
    (units / "worker-supervisor.conf").rename(drop_in)
    return units


def security(unit, threshold):
    """Return systemd's rating of a unit: 0 is a perfect sandbox, 100 is none."""
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}"]
    done = subprocess.run(
        [*command, "--no-pager", str(unit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def verified(*files):
    """Have systemd read units; nothing may be wrong."""
    command = ["systemd-analyze", "verify", "--man=no", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Older than 254, it ignores the line that limits need; workerd then refuses limits.
    said = [each for each in done.stderr.splitlines() if "'DelegateSubgroup'" not in each]
    assert (done.returncode, said) == (0, [])


def test_systemd_finds_nothing_wrong_with_the_units(units):
    """A misspelt line would be ignored, and with it the protection that it stands for."""
    verified(units / "workerd.service", units / "workerd.socket")


def test_systemd_finds_nothing_wrong_with_the_two_units(two_units):
    """The same where root's supervisor runs the jobs."""
    verified(two_units / "worker-supervisor.service", two_units / "workerd.service")
    drop_in = two_units / "workerd.service.d" / "worker-supervisor.conf"
    drop_in.write_text(drop_in.read_text() + "[Service]\nProtectClok=yes\n")
    with pytest.raises(AssertionError, match="ProtectClok"):  # it was read at all
        verified(two_units / "workerd.service")


def test_systemd_calls_the_sandbox_no_worse_than_ok(units):
    """A line of the sandbox could get lost unnoticed."""
    security(units / "workerd.service", 50)


def test_the_sandboxes_of_the_two_units(two_units):
    """workerd would keep rights that it no longer needs."""
    security(two_units / "workerd.service", 20)
    security(two_units / "worker-supervisor.service", 70)


def test_the_service_leaves_jobs_alone_and_is_told_of_its_own_files():
    """A restart would kill all jobs, or look for settings in a wrong place."""
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


def test_the_supervisor_of_root_leaves_jobs_alone():
    """An upgrade would end all jobs, or lose how they end."""
    text = (UNITS / "worker-supervisor.service").read_text()
    for line in (
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=always",
        "KillMode=process",
        "Delegate=yes",
        "DelegateSubgroup=worker-main",
        "OOMPolicy=continue",
    ):
        assert f"\n{line}\n" in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    # All of these would be gone for the jobs, too; StateDirectory= would give root the directory.
    for name in ("PrivateNetwork", "IPAddressDeny", "PrivateTmp", "StateDirectory", "User"):
        assert not any(line.startswith(f"{name}=") for line in lines)


def test_the_supervisor_of_root_starts_as_the_unit_says(tmp_path):
    """The service would end at once with wrong usage."""
    text = (UNITS / "worker-supervisor.service").read_text()
    (line,) = [each for each in text.splitlines() if each.startswith("ExecStart=")]
    argv = line.partition("=")[2].split()
    assert argv[:3] == ["/opt/worker/bin/python", "-P", "-m"]
    argv[0] = sys.executable
    done = subprocess.run(
        [*argv[:4], str(tmp_path), *argv[5:-3], "no-such", *argv[-2:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, argv[-4:-2]) == (2, ["--engine", "workerd"])
    assert "there is no account no-such" in done.stderr


@pytest.mark.parametrize("unit", ["workerd.service", "worker-supervisor.service"])
def test_no_unit_covers_parts_of_proc(unit):
    """The kernel would refuse an isolated job a /proc of its own."""
    names = {line.partition("=")[0] for line in (UNITS / unit).read_text().splitlines()}
    assert "ProtectSystem" in names
    assert names.isdisjoint(
        {"ProtectHostname", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc"}
    )
