"""Descriptors: whatever holds one has a share, and what is beyond it is refused clearly."""

import contextlib
import dataclasses
import os
import resource
import ssl
import subprocess

import pytest
import requests
from support import api as support
from support import daemon, edge, heads
from support.waiting import wait_until
from worker_core import Engine
from worker_daemon.edge.http1 import request_parser
from worker_daemon.settings import config, open_files

LIMIT = 400  # files that the daemon may open in a test
SIZE = 20_000_000  # bytes: more than the buffers of the network hold
MEGABYTES = f"head -c {SIZE} /dev/zero"


@pytest.mark.parametrize("limit", [64, 256, 300, 400, 1024, 4096, 20_000, 1 << 20])
@pytest.mark.parametrize("running", [1, 256, 100_000])
def test_the_shares_fit_in_the_limit(limit, running):
    """The sum of what is allowed would be more than the kernel gives."""
    settings = config.Config(max_running=running)
    shares = open_files.shares(settings, limit)
    assert min(shares) >= 2
    if limit > 400:
        assert sum(shares) < limit - 200
    if (limit, running) == (1 << 20, 256):
        assert shares == (4096, 2048, 128)


def test_the_limit_is_raised_as_far_as_it_is_needed(monkeypatch, caplog):
    """The daemon would serve few although more were allowed, or not say why it serves few."""
    limits = [1024, 2000]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(2), new))
    assert open_files.make_room(config.Config(max_connections=400)).connections == 400
    assert (limits[0], caplog.text) == (256 + 256 + 400 + 200 + 128, "")
    few = open_files.make_room(config.Config())
    assert limits[0] == 2000
    assert f"only {few.connections} connections and {few.downloads} downloads" in caplog.text
    assert "ulimit -n" in caplog.text


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A server that sends at most 8 outputs at a time."""
    shares = open_files.Shares(connections=200, downloads=8, bodies=2)
    monkeypatch.setattr(open_files, "make_room", lambda _: shares)
    with Engine() as engine, support.serving(engine, tmp_path, downloads=8) as running:
        yield running


def download(user, job):
    """Begin to read an output; return the answer."""
    return user.get(f"/jobs/{job}/out", headers=support.OCTETS, stream=True)


def test_more_downloads_than_files_are_refused(few):
    """Slow readers would take every descriptor, and then nothing would work for anybody."""
    alice, bob = few.user("alice"), few.user("bob")
    job, others = alice.shell(MEGABYTES), bob.shell(MEGABYTES)
    alice.ended(job)
    bob.ended(others)
    with contextlib.ExitStack() as stack:
        for _ in range(7):
            answer = stack.enter_context(download(alice, job))
            assert answer.status_code == 200
        document = support.refused(download(alice, job), 503, "too_many_downloads")
        assert document["detail"] == ("too many downloads (7 open, 7 of them yours); retry shortly")
        with download(bob, others) as one:
            assert one.status_code == 200, "a place is kept for others"
            assert len(one.content) == SIZE
        assert alice.get("/whoami").status_code == 200
        assert int(download(alice, job).headers["Retry-After"]) >= 1
    wait_until(lambda: download(alice, job).status_code == 200)


def test_a_download_that_is_broken_off_gives_its_place_back(few):
    """After a few clients that left, nobody could read anything any more."""
    alice = few.user("alice")
    job = alice.shell(MEGABYTES)
    alice.ended(job)
    for _ in range(30):
        with few.user("alice") as leaving:
            wait_until(lambda leaving=leaving: download(leaving, job).status_code == 200)
    assert len(alice.out(job)) == SIZE


def test_a_small_output_holds_no_file(few):
    """A client that asks for a hundred of them at once, and reads none, would hold them all."""
    alice = few.user("alice")
    job = alice.shell("echo hello")
    alice.ended(job)
    prepared = requests.Request("GET", few.url, auth=alice.auth).prepare()
    request = (
        f"GET /jobs/{job}/out HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n"
        f"Authorization: {prepared.headers['Authorization']}\r\n\r\n"
    ).encode()
    with few.edge.connect() as connection:
        connection.sendall(request * 50)
        received = b""
        while received.count(b"hello\n") < 50:
            received += connection.recv(1 << 16)
    assert received.count(b"HTTP/1.1 200 ") == 50


def test_more_long_bodies_than_files_are_refused():
    """Senders of long bodies would take every descriptor."""
    data = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    adj = heads.adjustments()  # one body at a time

    def begin():
        reader = request_parser.RequestParser(adj)
        reader.received(data)
        assert reader.resume() == b""
        reader.received(bytes(600_000))
        return reader

    first, second = begin(), begin()
    assert first.error is None
    assert (second.error.code, "too many long bodies" in second.error.body) == (503, True)
    first.close()
    third = begin()
    assert third.error is None
    third.received(bytes(400_000))
    assert third.completed
    third.close()
    begin().close()


def test_a_daemon_with_few_descriptors_serves_on(tmp_path):
    """An installation with a low limit would answer 500 to everybody once it is reached."""
    server = daemon.Daemon(tmp_path, start=False, max_running=10)
    limited = ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh"]
    server.popen = lambda argv, **options: subprocess.Popen([*limited, *argv], **options)
    with server, contextlib.ExitStack() as stack:
        server.start()
        auth = (server.user, server.password)
        session = stack.enter_context(requests.Session())
        session.auth, session.verify, session.trust_env = auth, str(server.ca), False
        body = {"command": "sh", "args": ["-c", MEGABYTES]}
        job = session.post(f"{server.url}/jobs/run", json=body).json()["id"]
        session.get(f"{server.url}/jobs/{job}/status?wait=30")
        codes = []
        context = ssl.create_default_context(cafile=server.ca)
        head = session.prepare_request(requests.Request("GET", server.url)).headers
        request = (
            f"GET /jobs/{job}/out HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n"
            f"Authorization: {head['Authorization']}\r\n\r\n"
        ).encode()
        for _ in range(100):
            plain = stack.enter_context(edge.connect_to(server.port))
            tls = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            tls.sendall(request)
            codes.append(int(tls.recv(100).split()[1]))
        assert set(codes) == {200, 503}
        assert len(os.listdir(f"/proc/{server.pid}/fd")) < LIMIT
        assert session.get(f"{server.url}/whoami").status_code == 200
        assert session.post(f"{server.url}/jobs/run", json=body).status_code == 201
        assert "Too many open files" not in server.log()
        assert "downloads at a time: at most 400 files may be open" in server.log()


def test_the_default_needs_no_more_than_a_service_has():
    """Every start would warn."""
    needed = dataclasses.asdict(config.Config())
    assert 2 * needed["max_connections"] + needed["max_running"] < 524_288  # of systemd
