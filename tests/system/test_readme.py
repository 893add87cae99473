"""The README does what it says: its tour is typed here, and its commands are those of CI."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon
from worker_daemon.settings import paths

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def blocks(language: str, text: str = README) -> list[str]:
    """Return the fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed(block: str) -> list[tuple[str, str]]:
    """Return each command of a console block with what it is said to print."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of somebody who has logged in."""
    with Daemon(tmp_path / "server") as daemon:
        yield {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "WORKER_SERVER": daemon.url,
            "WORKER_CACERT": str(daemon.ca),
            "WORKER_USER": daemon.user,
            "WORKER_PASSWORD": daemon.password,
        }


def test_the_tour_goes_as_it_is_shown(shell: dict[str, str]) -> None:
    """A new user types it line by line; whatever differs is the first thing learned of worker."""
    steps = [step for block in blocks("console") for step in typed(block)]
    assert steps
    for command, shown in steps:
        done = subprocess.run(
            ["bash", "-c", command],
            env=shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            text=True,
            check=False,
        )
        assert (command, UUID.sub("ID", done.stdout)) == (command, UUID.sub("ID", shown))


def test_ci_runs_what_the_readme_says() -> None:
    """Somebody who follows the README has to get what CI gets."""
    command = next(line for line in blocks("sh")[0].splitlines() if line.endswith("/tox"))
    assert command in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_the_library_example_prints_what_it_shows() -> None:
    """The first lines of worker-core that anybody tries must run as they are."""
    text = (ROOT / "packages" / "worker-core" / "README.md").read_text("utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks("python", text)[0]],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (blocks("text", text)[0], "")


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_ca_is_fetched_from_where_init_puts_it(
    monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """The first line that is typed on a workstation would find no file."""
    for name in ("XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "CONFIGURATION_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    directory = str(paths.config_dir()).removeprefix(f"{Path.home()}/")
    assert f"scp server.example.org:{directory}/ca.pem worker-ca.pem" in README


def test_named_options_exist() -> None:
    """Options are renamed in the code and forgotten in the README."""
    command = [Path(sys.executable).with_name("worker"), "help", "run"]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for option in re.findall(r"`(--[a-z-]+)", README):
        assert re.search(rf"^ +{option}\b", known, re.MULTILINE), option


@pytest.mark.parametrize("path", [ROOT / "README.md", *ROOT.glob("packages/*/README.md")])
def test_links_lead_somewhere(path: Path) -> None:
    """A dead link in a README is a dead end for a new user."""
    for link in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link
