"""The manual page in the wheel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from worker_cli import commands
from worker_cli.ui import manual

ROOT = Path(__file__).parents[2] / "packages" / "worker-cli"
MAN = ["man"] if shutil.which("man") and shutil.which("groff") else []


def test_page_is_current() -> None:
    """`man worker` would be out of date; worker_cli.ui.manual says how to regenerate it."""
    assert (ROOT / "man" / "worker.1").read_text("utf-8") == manual.page()


def test_page_is_in_the_wheel() -> None:
    """`man worker` would find nothing after an installation."""
    assert '"man/worker.1" = "share/man/man1/worker.1"' in (ROOT / "pyproject.toml").read_text()


def test_page_has_every_action_and_option() -> None:
    """An option would only be in the output of --help."""
    page = manual.page().replace("\\-", "-").replace("\\(aq", "'")
    for name in commands.NAMES:
        action = commands.load(name)
        assert f".SS worker {name}" in page
        for option in (*action.options, *commands.EVERYWHERE):
            assert option.names[0] in page


@pytest.mark.parametrize("command", MAN)
def test_page_is_read_without_complaint(command: str) -> None:
    """A mistake in the page's markup would hide a line."""
    done = subprocess.run(
        [command, "--warnings", "-E", "UTF-8", "-l", str(ROOT / "man" / "worker.1")],
        capture_output=True,
        check=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "100", "LANG": "C.UTF-8"},
    )
    assert done.stderr == ""
    assert "worker run --shell 'ls | wc -l'" in done.stdout
    assert "~/.config/worker/config.toml" in done.stdout
