"""How fast a finished output is downloaded, beside nginx sending the same file over the same TLS.

curl takes it from either and throws it away.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support import daemon
from support.waiting import wait_until

from benchmarks import tools
from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate
from benchmarks.service import Service

_CONFIGURATION = """
daemon off;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    sendfile on;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certs}/server.pem;
        ssl_certificate_key {certs}/server.key;
        ssl_protocols TLSv1.3;
        location = /out {{ alias {file}; }}
    }}
}}
"""
_MEGA = 1e6


def measure(bench: Bench) -> list[Row]:
    """Measure megabytes a second."""
    mebibytes = bench.pick(1024, 256)
    curl = tools.find("curl")
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(bench.directory / "service"))
        connection = service.connect()
        argv = ("dd", "if=/dev/zero", "bs=1M", f"count={mebibytes}", "status=none")
        job = connection.run(*argv, output_limit=0)
        connection.wait(job)
        connection.close()
        ours = f"{service.url}/jobs/{job}/out"
        sides = {"ours": lambda: _download(curl, service, ours, mebibytes << 20)}
        nginx = bench.optional(lambda: tools.find("nginx"))
        if nginx is not None:
            file = service.state_dir / "jobs" / job / "output"
            theirs = stack.enter_context(_serving(nginx, bench.directory, file))
            sides["theirs"] = lambda: _download(curl, service, theirs, mebibytes << 20)
        found = alternate(sides, bench.pick(5, 3))
    return [
        Row(
            f"download of {mebibytes} MiB",
            "MB per second",
            found["ours"],
            "nginx" if nginx else "",
            found.get("theirs", ()),
            Target(least=0.6) if nginx else None,
        )
    ]


def _download(curl: str, service: Service, url: str, size: int) -> float:
    argv = [curl, "--silent", "--fail", "--http1.1", "--cacert", str(service.ca), "--config", "-"]
    argv += ["--header", "Accept: application/octet-stream", "--output", "/dev/null"]
    argv += ["--write-out", "%{size_download} %{time_total}", url]
    login = f'user = "{service.user}:{service.password}"\n'
    done = subprocess.run(argv, input=login, capture_output=True, text=True, check=True)
    received, seconds = done.stdout.split()
    if int(received) != size:
        raise RuntimeError(f"{url}: {received} bytes came instead of {size}")
    return size / _MEGA / float(seconds)


@contextlib.contextmanager
def _serving(nginx: str, directory: Path, file: Path) -> Iterator[str]:
    port = _free_port()
    root = Path("/proc/self").stat().st_uid == 0
    text = _CONFIGURATION.format(
        user="user root;" if root else "",  # the job's directory is for its owner only
        directory=directory,
        certs=daemon.CERTS,
        port=port,
        file=file,
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(text)
    process = subprocess.Popen(
        [nginx, "-c", configuration, "-e", directory / "error.log", "-p", directory],
        stderr=subprocess.DEVNULL,
    )
    try:
        log = directory / "error.log"
        wait_until(lambda: _accepts(port), message=log.read_text)
        yield f"https://localhost:{port}/out"
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
