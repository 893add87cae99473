"""Live through a proxy: nginx with its default settings in front of the server."""

import base64
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from support import api as support
from support.waiting import wait_until

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx")

# All that concerns passing on is at its default. Before nginx 1.23.4 the default has no TLS 1.3.
CONFIG = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen unix:{directory}/socket;
        location / {{
            proxy_pass https://127.0.0.1:{port};
            proxy_ssl_protocols TLSv1.3;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def proxy(api):
    """nginx in front of the server; return the path of the socket that it listens on."""
    # A short path: that of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as directory:
        config, listening = Path(directory, "conf"), Path(directory, "socket")
        config.write_text(CONFIG.format(directory=directory, port=api.edge.port))
        argv = [NGINX, "-p", directory, "-c", str(config), "-e", f"{directory}/error.log"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: listening.exists() or process.poll() is not None)
                assert process.poll() is None, Path(directory, "error.log").read_text()
                yield str(listening)
            finally:
                process.terminate()


def stream(proxy, path, accept):
    """Ask for a stream through the proxy; return a file that reads it, and its status line."""
    login = base64.b64encode(f"alice:{support.PASSWORD}".encode()).decode()
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(proxy)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
        f"Authorization: Basic {login}\r\nConnection: close\r\n\r\n".encode()
    )
    file = connection.makefile("rb")
    connection.close()  # the file keeps it open
    return file


def head(file):
    """Read the head of an answer; return it."""
    lines = []
    while line := file.readline().strip():
        lines.append(line)
    return b"\n".join(lines)


def test_output_comes_through_while_it_is_written(proxy, alice, tmp_path):
    """Anybody who follows a job through nginx would see nothing until kilobytes are there."""
    gate = support.Gate(tmp_path)
    job = alice.shell("echo first; read line < gate; echo second", cwd=gate.directory)
    with stream(proxy, f"/jobs/{job}/out?follow=true", "application/octet-stream") as file:
        answer = head(file)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"no-transform" in answer
        chunked = file.readline()
        line = file.readline() if chunked != b"first\n" else chunked
        assert line == b"first\n", "before the job goes on"
        gate.open()
        assert b"second\n" in file.read()


def test_events_come_through_as_they_happen(proxy, alice):
    """A page behind nginx would show jobs as running that have long ended."""
    with stream(proxy, "/events", "text/event-stream") as file:
        assert head(file).startswith(b"HTTP/1.1 200 ")
        while file.readline() != b"retry: 2000\n":
            pass
        job = alice.run("true")
        while not ((line := file.readline()).startswith(b"data: ") and job.encode() in line):
            assert line


def test_a_head_of_a_stream_says_the_same(alice):
    """A proxy that asks first would decide otherwise than for the stream itself."""
    job = alice.run("true")
    for path in (f"/jobs/{job}/out?follow=true", "/events"):
        answer = alice.head(path, headers={"Accept": "application/octet-stream"})
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
    assert "X-Accel-Buffering" not in alice.get("/jobs").headers


def test_large_bodies_and_answers_go_through(proxy, alice):
    """A script or an output of some megabytes would be cut off by the proxy, or by us."""
    text = "a" * 900_000  # below the 1 MiB that nginx takes by default
    job = alice.run("cat", stdin=text)
    alice.ended(job)
    with stream(proxy, f"/jobs/{job}/out", "application/octet-stream") as file:
        assert b"Content-Length: 900000" in head(file)
        assert file.read() == text.encode()
