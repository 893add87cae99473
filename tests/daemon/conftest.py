"""What the tests of the API share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import api as support
from worker_core import Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of its own for each file of tests."""
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def api(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Api]:
    """A server of its own for each file of tests."""
    with support.serving(engine, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[support.Api]:
    """A server with an engine that has no jobs yet, for one test."""
    with Engine() as engine, support.serving(engine, tmp_path) as running:
        yield running


@pytest.fixture
def alice(api: support.Api) -> support.User:
    """A user."""
    return api.user("alice")


@pytest.fixture
def bob(api: support.Api) -> support.User:
    """Another user."""
    return api.user("bob")
