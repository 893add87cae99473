"""Linters and generators of others on the OpenAPI document of a running `workerd`: see README."""

import base64
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support.daemon import Daemon

HERE = Path(__file__).parent
REDOCLY = "extends:\n  - recommended\n"
SPECTRAL = 'extends: ["spectral:oas"]\n'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running workerd."""
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture(scope="module")
def work(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the document."""
    path = tmp_path_factory.mktemp("work")
    answer = requests.get(
        f"{daemon.url}/openapi.json",
        auth=(daemon.user, daemon.password),
        verify=str(daemon.ca),
        timeout=30,
    )
    (path / "openapi.json").write_bytes(answer.content)
    return path


@pytest.fixture(scope="module")
def npm(work: Path) -> Path:
    """The same directory, with the packages of npm."""
    for file in (HERE / "typescript").iterdir():
        shutil.copy(file, work)
    (work / "redocly.yaml").write_text(REDOCLY)
    (work / ".spectral.yaml").write_text(SPECTRAL)
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=work)
    return work


def run(*argv: str, cwd: Path, **environment: str) -> str:
    """Run a program that must succeed; return what it prints."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, "REDOCLY_TELEMETRY": "off", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{argv[0]}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def login(daemon: Daemon) -> dict[str, str]:
    """Return what the clients need, for their environment."""
    pair = base64.b64encode(f"{daemon.user}:{daemon.password}".encode()).decode()
    return {
        "WORKER_URL": daemon.url,
        "WORKER_CACERT": str(daemon.ca),
        "NODE_EXTRA_CA_CERTS": str(daemon.ca),
        "WORKER_LOGIN": f"Basic {pair}",
    }


def test_redocly_finds_no_error(npm: Path) -> None:
    """Who makes a site of the document would be stopped by its errors."""
    run("node_modules/.bin/redocly", "lint", "--config", "redocly.yaml", "openapi.json", cwd=npm)


def test_spectral_finds_nothing(npm: Path) -> None:
    """Who keeps to the common rules could not use the document."""
    run("node_modules/.bin/spectral", "lint", "--fail-severity=warn", "openapi.json", cwd=npm)


def test_a_generated_python_client_runs_a_job(work: Path, daemon: Daemon) -> None:
    """A program in Python would need a client written by hand."""
    generate = ["openapi-python-client", "generate", "--path", "openapi.json"]
    run(*generate, "--output-path", "generated", "--meta", "none", "--fail-on-warning", cwd=work)
    path = {"PYTHONPATH": os.pathsep.join([str(work), *sys.path])}
    program = str(HERE / "python_client.py")
    assert run(sys.executable, program, cwd=work, **login(daemon), **path) == "hello 3\n"


def test_a_generated_typescript_client_runs_a_job(npm: Path, daemon: Daemon) -> None:
    """A program in TypeScript would need types written by hand."""
    run("node_modules/.bin/openapi-typescript", "openapi.json", "-o", "schema.d.ts", cwd=npm)
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    run("node_modules/.bin/tsc", *options, "job.ts", cwd=npm)
    assert run("node", "job.js", cwd=npm, **login(daemon)) == "hello 3\n"


def test_onmessage_receives_events(npm: Path, daemon: Daemon) -> None:
    """A page that listens as the manuals of browsers show would receive nothing."""
    argv = ["node", "events.mjs"]
    environment = {**os.environ, **login(daemon)}
    with contextlib.ExitStack() as stack:
        listener = subprocess.Popen(argv, cwd=npm, env=environment, stdout=subprocess.PIPE)
        stack.callback(listener.wait)
        stack.callback(listener.kill)
        assert listener.stdout is not None
        stack.enter_context(listener.stdout)
        assert listener.stdout.readline() == b"open\n"
        requests.post(
            f"{daemon.url}/jobs/run",
            json={"command": "true", "cwd": "/"},
            auth=(daemon.user, daemon.password),
            verify=str(daemon.ca),
            timeout=30,
        )
        assert listener.stdout.readline() == b"completed\n"
