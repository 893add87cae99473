"""What the README of worker-daemon says about installing the service."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SUPERVISOR = "worker-supervisor.service"
README = ROOT / "packages" / "worker-daemon" / "README.md"


def blocks(heading: str, language: str) -> list[str]:
    """Return the blocks in a language below a heading, up to the next heading."""
    found = re.search(rf"^{heading}\n(.*?)^#{{2,3}} ", README.read_text(), re.M | re.S)
    assert found, f"{README} has no heading {heading}"
    return re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.M | re.S)


def install() -> str:
    """Return the line that fetches the distributions; it needs no running system."""
    return _service()[0]


def set_up() -> list[str]:
    """Return the lines after it."""
    return _service()[1:]


def second_unit() -> tuple[str, str, str]:
    """Return the commands that install worker-supervisor, the settings, and those that start."""
    heading = "### Each user with an account of their own"
    install, start = blocks(heading, "sh")
    (settings,) = blocks(heading, "toml")
    return install, settings, start


def _service() -> list[str]:
    (block,) = blocks("## As a service", "sh")
    return block.splitlines()
