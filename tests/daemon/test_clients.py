"""Third-party clients, friendly and hostile, with a running daemon."""

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess

import pytest
import requests
from support.daemon import Daemon
from support.edge import reset

SILENT = 1000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """One daemon for all tests of this file. No test may change it."""
    with Daemon(tmp_path_factory.mktemp("daemon"), max_body=100_000) as running:
        yield running
        assert "Traceback" not in running.log(), running.log()


@pytest.fixture(autouse=True)
def well_afterwards(daemon):
    """Check after each test that the daemon still answers."""
    yield
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            f"{daemon.url}/whoami",
            auth=(daemon.user, daemon.password),
            verify=str(daemon.ca),
            timeout=10,
        )
    assert answer.status_code == 200


def context(daemon):
    """Return a context that trusts the daemon's CA."""
    return ssl.create_default_context(cafile=daemon.ca)


def plain(daemon):
    """Return a TCP connection without send delays."""
    connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect(daemon):
    """Return a TLS connection."""
    return context(daemon).wrap_socket(plain(daemon), server_hostname="localhost")


def need(tool):
    """Return a tool's path, or skip the test."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


# Friendly


def curl(daemon, *arguments):
    """Run curl as a person would, and return what it prints."""
    command = [need("curl"), "--silent", "--show-error", "--max-time", "20", "--cacert", daemon.ca]
    command += ["--user", f"{daemon.user}:{daemon.password}"]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False)
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout


def test_curl_runs_a_job_and_reads_its_output(daemon):
    """Anybody who has no client of ours could not use the daemon."""
    job = json.dumps({"command": "printf", "args": ["a\\0b"]})
    made = json.loads(curl(daemon, "--json", job, f"{daemon.url}/jobs/run"))
    url = f"{daemon.url}/jobs/{made['id']}"
    assert json.loads(curl(daemon, f"{url}/status?wait=10"))["status"] == "completed"
    raw = "Accept: application/octet-stream"
    assert curl(daemon, "-H", raw, f"{url}/out") == b"a\0b"
    assert curl(daemon, "-H", raw, "--range", "1-", f"{url}/out") == b"\0b"
    follow = curl(daemon, "--no-buffer", "-H", raw, f"{url}/out?follow=true")
    assert follow == b"a\0b"


def test_curl_sends_a_body_after_it_was_invited(daemon):
    """A body for which curl sends Expect: 100-continue would wait a second, or be refused."""
    job = json.dumps({"command": "wc", "args": ["-c"], "stdin": "x" * 70_000})
    # Without an answer it would wait for longer than it may take in all (--max-time).
    uninvited = ["-H", "Expect: 100-continue", "--expect100-timeout", "60"]
    made = json.loads(curl(daemon, "--json", job, *uninvited, f"{daemon.url}/jobs/run"))
    url = f"{daemon.url}/jobs/{made['id']}"
    curl(daemon, f"{url}/status?wait=10")
    assert json.loads(curl(daemon, f"{url}/out"))["output"].strip() == "70000"


@pytest.mark.parametrize("expect", [["-H", "Expect:"], ["-H", "Expect: 100-continue"]])
def test_curl_is_told_that_a_body_is_too_long(daemon, tmp_path, expect):
    """curl would report a broken connection instead."""
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    out = curl(daemon, "--data-binary", f"@{tmp_path}/big", *expect, f"{daemon.url}/jobs/run")
    assert json.loads(out)["code"] == "body_too_large"


def test_openssl_finds_a_certificate_it_can_verify(daemon):
    """The tool that administrators check certificates with would report an error."""
    command = [need("openssl"), "s_client", "-connect", f"localhost:{daemon.port}", "-brief"]
    command += ["-CAfile", daemon.ca, "-verify_return_error", "-verify_hostname", "localhost"]
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    done = subprocess.run(
        [*command, "-ign_eof"], input=request, capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Protocol version: TLSv1.3" in done.stderr
    assert b"Verification: OK" in done.stderr


def test_a_browser_keeps_its_connections_and_asks_for_more_than_there_is(daemon):
    """Browsers open several connections, use them again, and ask for an icon."""
    connections = [
        http.client.HTTPSConnection("localhost", daemon.port, context=context(daemon), timeout=30)
        for _ in range(6)
    ]
    headers = {"Accept": "text/html,*/*;q=0.8", "Accept-Encoding": "gzip, br", "Cookie": "a=b"}
    for path, status in (("/", 401), ("/favicon.ico", 401), ("/healthz", 200)) * 2:
        for connection in connections:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (status, True)
    for connection in connections:
        connection.close()


# Hostile


def test_a_thousand_silent_connections_delay_nobody(daemon):
    """Anybody who opens enough connections would stop the daemon for everybody."""
    with contextlib.ExitStack() as stack:
        for n in range(SILENT):
            connection = stack.enter_context(plain(daemon))
            if n % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        with connect(daemon) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_resets_at_every_point_cost_nothing(daemon):
    """Each client that is killed would leave a connection or a thread behind."""
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for _ in range(10):
        reset(plain(daemon))
        half = plain(daemon)
        half.sendall(b"\x16\x03\x01")
        reset(half)
        for sent in (b"", request[:20], request, request * 50):
            connection = connect(daemon)
            connection.sendall(sent)
            reset(connection)


def test_requests_hidden_in_others_are_not_served(daemon):
    """Behind a proxy, a client could answer for somebody else's request."""
    hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for framing in (
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(hidden),
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(hidden),
        b"Transfer-Encoding: identity\r\nContent-Length: %d\r\n" % len(hidden),
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
    ):
        with connect(daemon) as connection:
            connection.sendall(
                b"POST /healthz HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n" + hidden
            )
            answers = b""
            while piece := connection.recv(1 << 16):
                answers += piece
        assert answers.count(b"HTTP/1.") == 1, framing
        assert answers.split()[1] in (b"400", b"501"), framing


def test_a_client_that_never_reads_does_not_stop_others(daemon):
    """A client that reads no answers would fill the memory, or stop the main loop."""
    with connect(daemon) as connection:
        connection.setblocking(False)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with contextlib.suppress(ssl.SSLWantWriteError):
            for _ in range(20_000):
                connection.send(request)
