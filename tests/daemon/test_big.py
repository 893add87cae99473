"""Long outputs and many followers, with a workerd whose memory can be measured."""

import base64
import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
import requests
from support.api import OCTETS, User
from support.daemon import Daemon
from support.waiting import wait_until

MIB = 1 << 20
SIZE = 120 * 1000 * 1000  # bytes, four times as many as an output may need in memory
LONG_TEXT = 40 * 1000 * 1000  # bytes, of which each takes two or more in JSON
ROOM = 30 * MIB  # what the daemon may need more than before, whatever the output's size


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with room for many followers and few other threads."""
    directory = tmp_path_factory.mktemp("big") / "workerd"
    with Daemon(directory, max_long_requests=300, threads=4) as running:
        yield running


@pytest.fixture
def demo(daemon: Daemon) -> Iterator[User]:
    """Its user."""
    with User(daemon.url, (daemon.user, daemon.password)) as user:
        yield user


@pytest.fixture(scope="module")
def long(daemon: Daemon) -> str:
    """A finished job with an incompressible output."""
    with User(daemon.url, (daemon.user, daemon.password)) as user:
        job_id = user.run("head", "-c", str(SIZE), "/dev/urandom")
        assert user.ended(job_id)["status"] == "completed"
    return job_id


@contextlib.contextmanager
def bounded(daemon: Daemon) -> Iterator[None]:
    """Watch the daemon's memory during this block."""
    process, over = psutil.Process(daemon.pid), threading.Event()
    before, most = process.memory_info().rss, 0

    def look() -> None:
        nonlocal most
        while not over.wait(0.01):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert most - before < ROOM, f"{(most - before) // MIB} MiB more than before"


def received(answer: requests.Response) -> Iterator[bytes]:
    """Yield the body, a little at a time."""
    yield from answer.iter_content(MIB)


def test_bytes_need_no_memory(daemon: Daemon, demo: User, long: str) -> None:
    """One long output would take the server down for everybody."""
    digest = hashlib.sha256()
    with bounded(daemon):
        answer = demo.get(f"/jobs/{long}/out", headers=OCTETS, stream=True)
        for chunk in received(answer):
            digest.update(chunk)
    spool = daemon.state_dir / "jobs" / long / "output"
    assert spool.stat().st_size == SIZE
    with spool.open("rb") as file:
        assert digest.hexdigest() == hashlib.file_digest(file, "sha256").hexdigest()


def test_text_needs_no_memory(daemon: Daemon, demo: User, long: str) -> None:
    """One long output, requested as JSON, would take the server down for everybody."""
    first, last, size = b"", b"", 0
    with bounded(daemon):
        # Random bytes as text take long to make, so only as many as would not fit.
        answer = demo.get(f"/jobs/{long}/out?offset={SIZE - LONG_TEXT}", stream=True)
        for chunk in received(answer):
            first, last, size = first or chunk[:200], (last + chunk)[-200:], size + len(chunk)
    assert first.startswith(b'{"id": "%s", "status": "completed", "output": "' % long.encode())
    tail = json.loads("{" + last.decode(errors="replace").rpartition('", ')[2])
    assert tail == {"lossy": True, "size": SIZE, "start": 0, "next_offset": SIZE}
    assert size > LONG_TEXT


def test_following_needs_no_memory(daemon: Daemon, demo: User, long: str) -> None:
    """Following a job with a long output would take the server down."""
    with bounded(daemon):
        answer = demo.get(f"/jobs/{long}/out?follow=true", headers=OCTETS, stream=True)
        assert sum(map(len, received(answer))) == SIZE


def test_a_slow_reader_of_a_finished_output_holds_no_thread(
    daemon: Daemon, demo: User, long: str
) -> None:
    """A few slow readers would freeze the server: it has four threads for short requests."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            slow = stack.enter_context(User(daemon.url, (daemon.user, daemon.password)))
            answer = slow.get(f"/jobs/{long}/out", headers=OCTETS, stream=True)
            stack.callback(answer.close)
            assert answer.status_code == 200
        begun = time.monotonic()
        for _ in range(50):
            assert demo.get(f"/jobs/{long}/status").status_code == 200
        assert time.monotonic() - begun < 10
        assert "\nworkerd_followers 0\n" in demo.get("/metrics").text


def test_many_silent_followers_delay_nobody(daemon: Daemon, demo: User) -> None:
    """Clients that follow silent jobs would freeze the server."""
    job_id = demo.run("sleep", "1000")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(_following(daemon, job_id)) for _ in range(200)]
        waiting = re.compile(r"^workerd_followers 200$", re.MULTILINE)
        wait_until(lambda: waiting.search(demo.get("/metrics").text), timeout=30)
        times = sorted(_seconds(demo, job_id) for _ in range(100))
        assert times[50] < 0.25, f"a median of {times[50]:.3f} s"
        demo.put(f"/jobs/{job_id}/kill", json={"now": True})
        for connection in connections:
            assert _rest(connection).endswith(b"0\r\n\r\n"), "each is told of the end"
    wait_until(lambda: "\nworkerd_followers 0\n" in demo.get("/metrics").text, timeout=30)


def _following(daemon: Daemon, job_id: str) -> ssl.SSLSocket:
    """Return a connection that follows a job; cheaper than a whole client."""
    context = ssl.create_default_context(cafile=daemon.ca)
    plain = socket.create_connection((daemon.host, daemon.port), timeout=30)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    login = base64.b64encode(f"{daemon.user}:{daemon.password}".encode()).decode()
    connection.sendall(
        f"GET /jobs/{job_id}/out?follow=true HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Basic {login}\r\n\r\n".encode()
    )
    return connection


def _rest(connection: ssl.SSLSocket) -> bytes:
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    return data


def _seconds(user: User, job_id: str) -> float:
    begun = time.monotonic()
    assert user.get(f"/jobs/{job_id}/status").status_code == 200
    return time.monotonic() - begun
