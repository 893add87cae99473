"""packages/ARCHITECTURE.md names what is there."""

import ast
import re
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "packages"
PAGE = (PACKAGES / "ARCHITECTURE.md").read_text("utf-8")
SOURCES = {
    "core": PACKAGES / "worker-core/src/worker_core",
    "daemon": PACKAGES / "worker-daemon/src/worker_daemon",
    "client": PACKAGES / "worker-cli/src/worker_cli",
}
THREAD = re.compile(r"threading\.Thread\(|\bThread\(")


def modules():
    return [path for root in SOURCES.values() for path in sorted(root.rglob("*.py"))]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_0-9/]+(?:\.py|/))`", PAGE))))
def test_every_module_that_is_named_exists(path):
    """A newcomer would look for files that were renamed."""
    directories = {"backups/", "set-aside/"}  # of the state directory
    assert path in directories or _somewhere(path)


def _somewhere(path):
    return any((root / path).exists() for root in SOURCES.values()) or any(
        module.match(path) for module in modules()
    )


def test_every_package_is_described():
    """A new package would be missing from the page."""
    packages = {
        f"{name} `{init.parent.relative_to(root)}/`"
        for name, root in SOURCES.items()
        for init in root.glob("*/__init__.py")
    }
    assert {each for each in packages if f"| {each} |" not in PAGE} == {"core `testing/`"}


def test_threads_are_started_only_where_the_page_says():
    """A newcomer would not know which thread runs a piece of code."""
    starting = {
        path
        for path in modules()
        if "testing" not in path.parts and THREAD.search(path.read_text("utf-8"))
    }
    unnamed = [path for path in starting if f"`{path.parent.name}/{path.name}`" not in PAGE]
    assert [path for path in unnamed if f"`{path.name}`" not in PAGE] == []
    assert len(starting) >= 6


def test_the_supervisor_has_one_thread():
    """The page says so, and a lock would be missing wherever it were not true."""
    for path in sorted((SOURCES["core"] / "supervisor").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                module = getattr(node, "module", None)
                assert not {"threading", "_thread", "concurrent.futures"} & {module, *names}, path
