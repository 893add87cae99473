"""The marks by which a test says when it runs; known on both sides."""

from typing import Any

import pytest
from vm.guest import boots

LINES = (
    f"boot(name): the boot in which it runs, of {', '.join(boots.BOOTS)}; without it, the first",
    "suite(name, …): the suites of Debian for which it is; without it, all",
    "last: runs after all others of its boot, and the jobs that it leaves stay",
)


def register(config: pytest.Config) -> None:
    """Make the marks known."""
    for line in LINES:
        config.addinivalue_line("markers", line)


def boot(item: pytest.Item) -> str:
    """Return the boot in which a test runs."""
    mark: Any = item.get_closest_marker("boot")
    return next(iter(boots.BOOTS)) if mark is None else mark.args[0]


def last(item: pytest.Item) -> bool:
    """Whether a test runs after all others of its boot."""
    return item.get_closest_marker("last") is not None
