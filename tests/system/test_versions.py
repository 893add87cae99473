"""The distributions of a release fit one another."""

import re
import tomllib
from pathlib import Path

import pytest
import worker_cli
import worker_core
import worker_daemon

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


@pytest.mark.parametrize("package", [worker_core, worker_daemon, worker_cli])
def test_the_newest_version_in_the_changelog_is_that_of_the_package(package):
    """A release would carry changes that its changelog lists under another version."""
    name = package.__name__.replace("_", "-")
    headings = re.findall(r"^## (.*)$", (PACKAGES / name / "CHANGELOG.md").read_text("utf-8"), re.M)
    newest = headings[0]
    assert re.fullmatch(rf"\[{re.escape(package.__version__)}\] - \d{{4}}-\d\d-\d\d", newest)
    versions = [
        tuple(map(int, re.match(r"\[(\d+)\.(\d+)\.(\d+)\]", each).groups())) for each in headings
    ]
    assert versions == sorted(set(versions), reverse=True)
