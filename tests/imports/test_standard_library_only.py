"""The contract type of support.contracts, through the command that the gate runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent.parent


def lint(directory: Path, source: str, contract: str = "") -> subprocess.CompletedProcess[str]:
    """Check a package of one module that has this source."""
    (directory / "sample").mkdir()
    (directory / "sample" / "__init__.py").write_text(source)
    config = directory / "pyproject.toml"
    config.write_text(f"""
        [tool.importlinter]
        root_packages = ["sample"]
        include_external_packages = true
        contract_types = ["standard_library_only: support.contracts.StandardLibraryOnly"]
        [[tool.importlinter.contracts]]
        name = "sample is pure"
        type = "standard_library_only"
        packages = ["sample"]
        {contract}
    """)
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", config, "--no-cache"],
        cwd=directory,
        env={"PYTHONPATH": f"{directory}:{SUPPORT}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_standard_library_may_be_imported(tmp_path: Path) -> None:
    """A clean package passes: otherwise nobody could ever pass the gate."""
    result = lint(tmp_path, "import os.path\nimport sqlite3\nfrom email import message\n")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "source",
    ["import requests\n", "def late():\n    from requests import adapters\n    return adapters\n"],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, source: str) -> None:
    """Users of the engine as a library would find a dependency nobody told them about."""
    result = lint(tmp_path, source)
    assert result.returncode == 1
    assert "sample -> requests: outside the standard library" in result.stdout


def test_an_exception_is_allowed_while_it_is_used(tmp_path: Path) -> None:
    """An exception that is written down passes."""
    result = lint(tmp_path, "import requests\n", 'allow = ["sample -> requests"]')
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_exception_that_nobody_uses_is_reported(tmp_path: Path) -> None:
    """A stale exception would let the next foreign import in unseen."""
    result = lint(tmp_path, "import os\n", 'allow = ["sample -> requests"]')
    assert result.returncode == 1
    assert "sample -> requests: allowed, but nobody imports it" in result.stdout
