"""Load over HTTPS from wrk, a client in C that costs the measured side little of the machine."""

from __future__ import annotations

import os
import re
import subprocess

from benchmarks import tools
from benchmarks.client import basic
from benchmarks.service import Service

_TIMEOUT = 60.0


def jobs_per_second(service: Service, *, connections: int, seconds: int) -> float:
    """Run /bin/true again and again on every connection, each job to its recorded end."""
    # One thread a connection: the script keeps the id of the job that it waits for.
    return _run(service, "jobs.lua", connections, connections, seconds, "/jobs/run")


def requests_per_second(service: Service, path: str, *, connections: int, seconds: int) -> float:
    """GET a path again and again on every connection."""
    return _run(service, "route.lua", 1, connections, seconds, path)


def _run(
    service: Service, script: str, threads: int, connections: int, seconds: int, path: str
) -> float:
    argv = [tools.find("wrk"), f"-t{threads}", f"-c{connections}", f"-d{seconds}s"]
    argv += ["--timeout", "60s", "-s", str(tools.PROGRAMS / script), service.url + path]
    environ = {**os.environ, "LOGIN": basic(service.user, service.password)}
    done = subprocess.run(
        argv, env=environ, capture_output=True, text=True, check=True, timeout=seconds + _TIMEOUT
    )
    found = re.search(r"^RESULT (\S+) (\d+)$", done.stdout, re.M)
    if found is None or int(found[2]):
        raise RuntimeError(f"wrk had errors:\n{done.stdout}{done.stderr}")
    return float(found[1])
