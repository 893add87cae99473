"""The distributions of a release fit one another."""

import tomllib
from pathlib import Path

import worker_core

PACKAGES = Path(__file__).parents[2] / "packages"


def requirements(name: str) -> list[str]:
    """Return what a distribution asks for."""
    project = tomllib.loads((PACKAGES / name / "pyproject.toml").read_text("utf-8"))["project"]
    found: list[str] = project["dependencies"]
    return found


def test_the_daemon_asks_for_the_engine_of_its_own_release() -> None:
    """An upgrade of the daemon alone would keep an engine that it was never tested with."""
    (engine,) = [each for each in requirements("worker-daemon") if each.startswith("worker-core")]
    assert f">={worker_core.__version__}," in engine


def test_the_client_asks_for_nothing_of_the_server() -> None:
    """A workstation would have to install the server."""
    assert not [each for each in requirements("worker-cli") if each.startswith("worker-")]
