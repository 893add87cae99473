"""The running daemon: start, signals, and what jobs inherit."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from support.daemon import Daemon
from support.waiting import wait_until
from worker_daemon.auth import htpasswd
from worker_daemon.command import ca


@pytest.fixture
def daemon(tmp_path):
    """A running daemon of its own for each test; it gives requests longer than tests wait."""
    with Daemon(tmp_path, drain_timeout=60) as running:
        yield running


@pytest.fixture
def session(daemon):
    """The demo user's session with it."""
    with connect(daemon) as made:
        yield made


def connect(daemon):
    """Return a session of the demo user that ignores the environment."""
    made = requests.Session()
    made.trust_env = False
    made.verify = str(daemon.ca)
    made.auth = (daemon.user, daemon.password)
    return made


def run(session, daemon, *argv):
    """Start a job and return its id."""
    answer = session.post(
        f"{daemon.url}/jobs/run", json={"command": argv[0], "args": argv[1:]}, timeout=20
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def status(session, daemon, job):
    """Return a job's status."""
    answer = session.get(f"{daemon.url}/jobs/{job}/status", timeout=20)
    return answer.json()["status"]


def test_jobs_go_on_over_a_restart(daemon, session):
    """An upgrade of the daemon would end everybody's jobs."""
    job = run(session, daemon, "sleep", "1000")
    assert daemon.stop() == 0
    daemon.start()
    assert status(session, daemon, job) == "running"
    daemon.kill9()
    daemon.start()
    assert status(session, daemon, job) == "running"


def test_the_line_that_says_where_it_listens_comes_when_it_does(daemon):
    """Scripts that wait for the line would connect too early."""
    assert f"listening on https://127.0.0.1:{daemon.port}\n" in daemon.log()
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=5):
        pass


def test_a_second_daemon_on_the_same_jobs_is_refused(daemon):
    """Two daemons would both manage the same jobs."""
    argv = [sys.executable, "-m", "worker_daemon", f"--config={daemon.config}"]
    done = subprocess.run(
        [*argv, "--listen=127.0.0.1:0"], capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 1
    # As root it warns first, in the log, that jobs are root's.
    said = rb"([^\n]* warning: [^\n]*\n)?workerd: [^\n]*has it open[^\n]*\n"
    assert re.fullmatch(said, done.stderr), done.stderr


# SIGTERM


def test_followers_are_ended_and_the_daemon_with_them(daemon, session):
    """A restart would wait for clients that follow for ever."""
    job = run(session, daemon, "sleep", "1000")
    answer = session.get(
        f"{daemon.url}/jobs/{job}/out",
        params={"follow": "true"},
        stream=True,
        timeout=20,
        headers={"Accept": "application/octet-stream"},
    )
    assert answer.status_code == 200
    assert daemon.stop() == 0
    with contextlib.suppress(requests.RequestException):
        assert answer.content == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_at_once(daemon, session, number):
    """Each restart would take the whole drain_timeout."""
    session.get(f"{daemon.url}/healthz", timeout=20)
    daemon.signal(number)
    assert daemon.wait() == 0


def test_a_second_signal_ends_it_at_once(daemon):
    """An administrator in a hurry would have to use SIGKILL."""
    with _request_on_its_way(daemon):
        daemon.signal(signal.SIGTERM)
        wait_until(lambda: "shutting down: " in daemon.log(), message=daemon.log)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 128 + signal.SIGTERM


def test_a_request_that_hangs_does_not_keep_it_from_ending(tmp_path):
    """The service manager would kill it, and report a failure."""
    with Daemon(tmp_path, drain_timeout=0.5) as daemon, _request_on_its_way(daemon):
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert "closing 1 connections that did not finish in time" in daemon.log()


@contextlib.contextmanager
def _request_on_its_way(daemon):
    """Send half of a request."""
    context = ssl.create_default_context(cafile=daemon.ca)
    plain = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        # Answered only after the half request was read: one thread reads, in order.
        with connect(daemon) as other:
            other.get(f"{daemon.url}/healthz", timeout=20)
        yield


# SIGHUP


def test_certificates_users_and_log_level_are_reloaded(daemon, session, tmp_path):
    """Each renewal of a certificate would need a restart, and cut off whoever follows."""
    job = run(session, daemon, "sleep", "1000")
    follower = session.get(
        f"{daemon.url}/jobs/{job}/out",
        params={"follow": "true"},
        stream=True,
        timeout=20,
        headers={"Accept": "application/octet-stream"},
    )
    ca = _new_certificate(tmp_path / "new")
    daemon.write_settings(
        cert=str(ca.with_name("server.pem")),
        key=str(ca.with_name("server.key")),
        threads=3,
        log_level="debug",
    )
    with htpasswd.editing(daemon.users_file) as users:
        users["new"] = htpasswd.hash_password(b"another", 4)
    _reload(daemon, "reloaded certificate, users and log level")
    assert "threads has changed; restart to apply it" in daemon.log()
    with connect(daemon) as new:
        new.verify = str(ca)
        assert new.put(f"{daemon.url}/jobs/{job}/kill", timeout=20).status_code == 200
        new.auth = ("new", "another")
        assert new.get(f"{daemon.url}/jobs", timeout=20).status_code == 200
        new.auth = ("new", daemon.password)
        assert new.get(f"{daemon.url}/jobs", timeout=20).status_code == 401
    assert follower.content == b""


def _new_certificate(directory):
    authority = ca.Authority.create("new")
    cert, key = authority.issue(["localhost", "127.0.0.1"])
    directory.mkdir()
    for name, content in (
        ("ca.pem", authority.certificate),
        ("server.pem", cert),
        ("server.key", key),
    ):
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
    return directory / "ca.pem"


def _reload(daemon, said):
    before = len(daemon.log())
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: said in daemon.log()[before:], 10, daemon.log)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threads": 0}, "not reloaded: .*threads must be"),
        ({"cert": "/none.pem"}, "not reloaded: there is no /none.pem"),
    ],
)
def test_a_reload_of_settings_that_cannot_work_changes_nothing(daemon, session, settings, said):
    """A typing error would stop the service."""
    daemon.write_settings(**settings)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: re.search(said, daemon.log()), 10, daemon.log)
    assert session.get(f"{daemon.url}/jobs", timeout=20).status_code == 200


# systemd


class Manager:
    """Stands for systemd: receives the messages of a service."""

    def __init__(self, path):
        self.path = path
        self.said = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while (message := self.socket.recv(4096)) != b"stop":
            self.said.append(message.decode())

    def heard(self, *wanted):
        """Wait until these lines have arrived in this order."""

        def all_said():
            lines = iter([line for message in self.said for line in message.splitlines()])
            return all(any(line.startswith(w) for line in lines) for w in wanted)

        wait_until(all_said, 10, lambda: f"{wanted} in {self.said}")

    def close(self):
        """Stop listening."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", str(self.path))
        self.thread.join(5)
        self.socket.close()


def test_systemd_is_told_of_readiness_reload_life_and_end(tmp_path):
    """systemd would think that the service has not started, hangs, or has failed."""
    manager = Manager(tmp_path / "notify")
    daemon = Daemon(tmp_path / "d", start=False)
    daemon.environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000"}
    with daemon, contextlib.closing(manager):
        daemon.start()
        manager.heard("READY=1", "WATCHDOG=1", "WATCHDOG=1")
        daemon.signal(signal.SIGHUP)
        manager.heard("RELOADING=1", "MONOTONIC_USEC=", "READY=1")
        daemon.stop()
        manager.heard("READY=1", "RELOADING=1", "READY=1", "STOPPING=1")


def test_a_socket_from_systemd_is_served(tmp_path):
    """Connections during a restart would be refused instead of waiting."""
    with Daemon(tmp_path, start=False) as daemon, socket.create_server(("127.0.0.1", 0)) as sock:
        # As systemd does: descriptor 3, and the pid of the process that is to have it.
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update("
            "LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
            "os.execv(sys.executable, [sys.executable, '-m', 'worker_daemon', *sys.argv[2:]])"
        )
        port = sock.getsockname()[1]
        argv = [sys.executable, "-c", script, str(sock.fileno()), f"--config={daemon.config}"]
        process = subprocess.Popen(argv, pass_fds=[sock.fileno()], stderr=subprocess.PIPE)
        with process:
            try:
                daemon.port = port
                with connect(daemon) as session:  # waits in the socket's queue until it is served
                    assert session.get(f"{daemon.url}/healthz", timeout=20).status_code == 200
                    job = run(session, daemon, "sh", "-c", "env; ls /proc/self/fd")
                    session.get(f"{daemon.url}/jobs/{job}/status", params={"wait": 10}, timeout=20)
                    output = session.get(f"{daemon.url}/jobs/{job}/out", timeout=20).json()[
                        "output"
                    ]
                    assert "LISTEN_FDS" not in output
            finally:
                process.terminate()
                said = process.communicate(timeout=20)[1].decode()
        assert f"listening on https://127.0.0.1:{port}\n" in said


def test_a_socket_from_systemd_does_not_serve_the_published_key_to_the_network(tmp_path):
    """With a socket of systemd, the published key would be used on the network."""
    from worker_daemon.command import check
    from worker_daemon.settings import config

    with Daemon(tmp_path, start=False) as daemon:
        loaded = config.load(daemon.config)
    assert check.exposure(loaded, ["127.0.0.1", "0.0.0.0"])


# The log


def test_the_log_can_be_json(tmp_path):
    """A log collector could not parse lines for people."""
    with Daemon(tmp_path, log_format="json") as daemon, connect(daemon) as session:
        run(session, daemon, "true")
        daemon.stop()
        lines = [line for line in daemon.log().splitlines() if line.startswith("{")]
    entries = [json.loads(line) for line in lines]
    access = next(entry for entry in entries if entry["logger"] == "worker_daemon.access")
    assert access["user"] == "demo"
    assert access["status"] == 201
    assert entries[-1]["message"].startswith("shutting down: ")


def test_passwords_are_never_in_the_log(daemon, session):
    """Anybody who reads the log could log in."""
    session.get(f"{daemon.url}/jobs", timeout=20)
    session.auth = ("demo", "wrong secret")
    session.get(f"{daemon.url}/jobs", timeout=20)
    daemon.stop()
    assert "secret" not in daemon.log()
    assert daemon.password not in daemon.log()


def test_the_process_inherits_nothing_that_jobs_could_use(daemon):
    """Jobs would find the daemon's listening socket among their files."""
    with connect(daemon) as session:
        job = run(session, daemon, "ls", "-l", "/proc/self/fd")
        wait_until(lambda: status(session, daemon, job) == "completed")
        raw = {"Accept": "application/octet-stream"}
        shown = session.get(f"{daemon.url}/jobs/{job}/out", headers=raw, timeout=20).text
    assert "socket:" not in shown
    ours = _sockets(daemon.pid)
    (supervisor,) = daemon.supervisors()
    # What they share is where the supervisor keeps its pidfds, which is not of the network.
    assert ours & _network_sockets()
    assert not _sockets(supervisor) & _network_sockets()
    assert len(_sockets(supervisor) & ours) <= 1


def test_an_isolated_job_cannot_let_itself_in(daemon, session):
    """A program could add a user or replace the key, where it may write beside them."""
    directory = str(daemon.directory)
    argv = "cat users workerd.toml state/worker.db; echo eve:x >> users; echo x > workerd.toml"
    spec = {"cwd": directory, "isolation": {"read_only": True}}
    body = {"command": "sh", "args": ["-c", argv], **spec}
    job = session.post(f"{daemon.url}/jobs/run", json=body, timeout=20).json()["id"]
    wait_until(lambda: status(session, daemon, job) == "failed")
    raw = {"Accept": "application/octet-stream"}
    shown = session.get(f"{daemon.url}/jobs/{job}/out", headers=raw, timeout=20).text
    assert shown.count("Permission denied") == 4, shown
    assert "state/worker.db: No such file" in shown
    assert daemon.user in daemon.users_file.read_text()
    assert "eve" not in daemon.users_file.read_text()


def _sockets(pid):
    folder = f"/proc/{pid}/fd"
    targets = {os.readlink(f"{folder}/{each}") for each in os.listdir(folder)}
    return {each for each in targets if each.startswith("socket:")}


def _network_sockets():
    found = set()
    for name in ("tcp", "tcp6"):
        lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        found |= {f"socket:[{line.split()[9]}]" for line in lines}
    return found


def test_paths_and_jobs_are_utf8_in_every_locale(tmp_path):
    """Under LC_ALL=C or LANG=de_DE.ISO-8859-1 jobs and paths with a "µ" would be others."""
    with Daemon(tmp_path, start=False) as daemon:
        daemon.state_dir = tmp_path / "zustände 漢"
        daemon.write_settings()
        daemon.environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        daemon.start()
        with connect(daemon) as session:
            for text in ("µ", "漢", "\udcff"):
                job = run(session, daemon, "printf", "%s", text)
                wait_until(lambda job=job: status(session, daemon, job) == "completed")
                raw = {"Accept": "application/octet-stream"}
                answer = session.get(f"{daemon.url}/jobs/{job}/out", headers=raw, timeout=20)
                assert answer.content == text.encode("utf-8", "surrogateescape")
        assert daemon.stop() == 0
        assert (daemon.state_dir / "worker.db").exists()
