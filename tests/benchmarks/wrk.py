"""Load over HTTPS from wrk, a client in C that costs the measured side little of the machine."""

from __future__ import annotations

import os
import re
import subprocess
import time

from benchmarks import tools
from benchmarks.client import basic
from benchmarks.service import Service

_TIMEOUT = 120.0


def jobs_per_second(service: Service, *, connections: int, seconds: int) -> float:
    """Run /bin/true again and again on every connection, each job to its recorded end."""
    # One thread a connection: the script keeps the id of the job that it waits for.
    argv = [f"-t{connections}", f"-c{connections}", f"-d{seconds}s"]
    count, taken = _run(service, "jobs.lua", argv, "/jobs/run")
    return count / taken


def jobs_per_second_posted(service: Service, *, connections: int, seconds: int) -> float:
    """POST /bin/true again and again on every connection, and wait until all jobs have ended."""
    argv = ["-t1", f"-c{connections}", f"-d{seconds}s"]
    connection = service.connect()
    begun = time.perf_counter()
    count, _ = _run(service, "route.lua", argv, "/jobs/run", JOB='{"command": "/bin/true"}')
    while connection.ask("GET", "/jobs?status=queued&status=running&limit=1")["jobs"]:
        pass
    taken = time.perf_counter() - begun
    connection.close()
    return count / taken


def requests_per_second(service: Service, path: str, *, connections: int, seconds: int) -> float:
    """GET a path again and again on every connection."""
    argv = ["-t1", f"-c{connections}", f"-d{seconds}s"]
    count, taken = _run(service, "route.lua", argv, path)
    return count / taken


def _run(
    service: Service, script: str, argv: list[str], path: str, **environ: str
) -> tuple[int, float]:
    """Return how many there were, in how many seconds."""
    done = subprocess.run(
        [
            *(tools.find("wrk"), *argv, "--timeout", "60s"),
            *("-s", str(tools.PROGRAMS / script), service.url + path),
        ],
        env={**os.environ, "LOGIN": basic(service.user, service.password), **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT,
    )
    found = re.search(r"^RESULT (\d+) (\S+) (\d+)$", done.stdout, re.M)
    if found is None or int(found[3]):
        raise RuntimeError(f"wrk had errors:\n{done.stdout}{done.stderr}")
    return int(found[1]), float(found[2])
