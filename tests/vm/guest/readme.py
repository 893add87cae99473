"""The commands by which the README of worker-daemon installs the service."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = ROOT / "packages" / "worker-daemon" / "README.md"


def commands() -> list[str]:
    """Return the lines of the block that installs the service."""
    found = re.search(r"^## As a service\n.*?^```sh\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert found, f"{README} has no block of commands that install the service"
    return found[1].splitlines()


def install() -> str:
    """Return the line that fetches the distributions; it needs no running system."""
    return commands()[0]


def set_up() -> list[str]:
    """Return the lines after it."""
    return commands()[1:]
