"""A user who is removed gets no more of an answer that is under way, however slow it is read."""

import base64
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from support import api as support
from support import edge
from support.api import Api, Gate, User, refused
from support.waiting import wait_until
from worker_core import Engine, JobSpec
from worker_daemon.auth import htpasswd

MIB = 1 << 20
SIZE = 64 * MIB
_LENGTH = re.compile(rb"(?im)^content-length: (\d+)")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The users file of `running`."""
    return tmp_path / "users"


@pytest.fixture
def running(engine: Engine, tmp_path: Path) -> Iterator[Api]:
    """A server whose users a test may change."""
    with support.serving(engine, tmp_path) as api:
        yield api


def remove(users: Path, name: str) -> None:
    """Remove a user, as `workerd user remove` does."""
    with htpasswd.editing(users) as entries:
        del entries[name]


class Slow:
    """A client of few bytes a second: its window is small, and it reads when a test says so."""

    def __init__(
        self, api: Api, path: str, *headers: str, user: str = "alice", requests: int = 1
    ) -> None:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", api.edge.port))
        trust = ssl.create_default_context(cafile=edge.CERTS / "ca.pem")
        self.socket = trust.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        )
        self.port = self.socket.getsockname()[1]
        self._api = api
        pair = base64.b64encode(f"{user}:{support.PASSWORD}".encode()).decode()
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Basic {pair}"]
        self.requests = requests
        self.socket.sendall("\r\n".join([*lines, *headers, "", ""]).encode() * requests)
        self.head, _, body = self.socket.recv(4096).partition(b"\r\n\r\n")
        self.received = len(body)
        self.last = body

    @property
    def length(self) -> int:
        """How many bytes the answer has."""
        match = _LENGTH.search(self.head)
        assert match is not None, self.head
        return int(match[1])

    def unsent(self) -> int:
        """Return how many bytes the server still has for this connection."""
        for each in self._api.edge.server._channels():
            if each.addr[1] == self.port:
                # While a request runs there may be more to come.
                return each.total_outbufs_len or len(each.requests)
        return 0

    def read_on(self) -> None:
        """Read all that is still to come."""
        with self.socket:
            while data := self.socket.recv(1 << 16):
                self.received += len(data)
                self.last = (self.last + data)[-10:]


def is_cut_off(slow: Slow) -> bool:
    """Return whether an answer is cut off where no client can take that for its end."""
    wait_until(lambda: not slow.unsent())
    with contextlib.suppress(OSError):
        slow.read_on()
    if b"transfer-encoding: chunked" in slow.head.lower():
        return not slow.last.endswith(b"\r\n0\r\n\r\n")
    return slow.received < slow.length * slow.requests


@pytest.fixture(scope="module")
def big(engine: Engine) -> str:
    """A finished job of alice with much output."""
    spec = JobSpec(command="head", args=("-c", str(SIZE), "/dev/zero"), cwd="/")
    job = engine.wait(engine.submit(spec, "alice").id, 30)
    assert engine.output_info(job.id).size == SIZE
    return job.id


OCTETS = "Accept: application/octet-stream"
ANSWERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "download": ("/jobs/{}/out", (OCTETS,)),
    "ranged download": ("/jobs/{}/out", (OCTETS, f"Range: bytes=1000-{SIZE - 1000}")),
    "from an offset": (f"/jobs/{{}}/out?offset={MIB}", (OCTETS,)),
    "as text in JSON": ("/jobs/{}/out", ("Accept: application/json",)),
    "followed": ("/jobs/{}/out?follow=true", (OCTETS,)),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_that_is_read_slowly_is_broken_off(
    running: Api, users: Path, big: str, kind: str
) -> None:
    """A removed user could go on reading for days, by reading slowly."""
    path, headers = ANSWERS[kind]
    slow = Slow(running, path.format(big), *headers)
    mark = "&" if "?" in path else "?"
    others = Slow(running, f"{path.format(big)}{mark}owner=alice", *headers, user="root")
    assert slow.head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206"))
    remove(users, "alice")
    assert is_cut_off(slow)
    assert slow.received < SIZE - 2 * MIB
    assert others.unsent(), "somebody else's answer must go on"
    others.socket.close()


def test_the_output_of_a_running_job_is_broken_off(
    running: Api, users: Path, tmp_path: Path
) -> None:
    """A removed user could read what a job of theirs still writes."""
    gate = Gate(tmp_path)
    alice = running.user("alice")
    job_id = alice.shell(f"head -c {SIZE} /dev/zero; read line < gate", cwd=gate.directory)
    size = "X-Output-Size"
    wait_until(lambda: alice.head(f"/jobs/{job_id}/out").headers[size] == str(SIZE))
    slow = Slow(running, f"/jobs/{job_id}/out", OCTETS)
    remove(users, "alice")
    assert is_cut_off(slow)
    running.engine.kill(job_id, by="root", now=True)


def test_a_list_that_is_read_slowly_is_broken_off(running: Api, users: Path) -> None:
    """A removed user could read the records of jobs for as long as they like."""
    alice = running.user("alice")
    alice.run("true", *["x" * 100_000] * 60, cwd="/")
    slow = Slow(running, "/jobs?limit=100")
    wait_until(lambda: slow.unsent() > 0)
    remove(users, "alice")
    assert is_cut_off(slow)


def test_a_new_password_ends_a_download(running: Api, users: Path, big: str) -> None:
    """Whoever stole a password could go on reading after it was changed."""
    slow = Slow(running, f"/jobs/{big}/out", OCTETS)
    with htpasswd.editing(users) as entries:
        entries["alice"] = htpasswd.hash_password(b"another", 4)
    assert is_cut_off(slow)


def test_requests_sent_ahead_hide_no_login(running: Api, users: Path, big: str) -> None:
    """A removed user could keep a download going with a request of somebody else behind it."""
    slow = Slow(running, f"/jobs/{big}/out", OCTETS)
    pair = base64.b64encode(f"bob:{support.PASSWORD}".encode()).decode()
    ahead = f"GET /whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {pair}\r\n\r\n"
    slow.socket.sendall(ahead.encode())
    remove(users, "alice")
    assert is_cut_off(slow)


def test_a_slip_of_the_editor_breaks_nothing_off(running: Api, users: Path, big: str) -> None:
    """While the users file cannot be used, every download of every user would be cut off."""
    good = users.read_bytes()
    slow = Slow(running, f"/jobs/{big}/out", OCTETS)
    users.write_bytes(b"garbage\n")
    wait_until(lambda: running.user("bob").get("/whoami").status_code == 503)
    users.write_bytes(good)
    with slow.socket:
        while slow.received < slow.length:
            slow.received += len(slow.socket.recv(1 << 20))
    assert slow.received == slow.length == SIZE


WAITS: dict[str, Callable[[User, str], requests.Response]] = {
    "status": lambda user, job: user.get(f"/jobs/{job}/status?wait=60"),
    "kill": lambda user, job: user.put(f"/jobs/{job}/kill?wait=60", json={"grace": 1000}),
}


@pytest.mark.parametrize("kind", WAITS)
def test_a_wait_ends_with_the_login(running: Api, users: Path, kind: str) -> None:
    """A removed user would learn how a job ends."""
    alice, bob = running.user("alice"), running.user("bob")
    job_id = alice.shell("trap '' TERM; echo ready; while :; do sleep 1; done", cwd="/")
    wait_until(lambda: alice.out(job_id) == b"ready\n")
    answers: list[requests.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(WAITS[kind](alice, job_id)))
    waiting.start()
    wait_until(lambda: "\nworkerd_followers 1\n" in bob.get("/metrics").text)
    remove(users, "alice")
    waiting.join(30)
    refused(answers[0], 401, "unauthorized")
    running.engine.kill(job_id, by="root", now=True)
