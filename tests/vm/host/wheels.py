"""The distributions as wheels, a later version of them, and what they need, for the machine."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from vm.host import cache
from vm.host.root import SUITES

ROOT = Path(__file__).parents[3]
NAMES = ("worker-core", "worker-daemon", "worker-cli")
NEXT = "0.2.999"
_VERSION = re.compile(r'^__version__ = ".*"$', re.MULTILINE)
_PROTOCOL = re.compile(r"^PROTOCOL = (\d+)$", re.MULTILINE)


def product() -> Path:
    """Return a directory with `now/*.whl`, made from the tree, and `next/*.whl`.

    The next version is the same but for its number, and for the number of the protocol between
    engine and supervisor: the most that an upgrade has to bring about.
    """
    packages = ROOT / "packages"
    files = [each for name in NAMES for each in _sources(packages / name)]
    return cache.made(
        "product", cache.key(Path(__file__).read_bytes(), cache.contents(files, packages)), _build
    )


def dependencies(suite: str) -> Path:
    """Return a directory with the wheels for a suite that the distributions and the tests need."""
    wanted = sorted({*_needed(), f"pytest=={pytest.__version__}", "pexpect>=4.9"})
    recipe = cache.key(Path(__file__).read_bytes(), *wanted)
    return cache.made(
        f"dependencies-{suite}", recipe, lambda directory: _download(wanted, suite, directory)
    )


def _sources(package: Path) -> list[Path]:
    return [
        each
        for each in package.rglob("*")
        if each.is_file() and not {"__pycache__", "dist", "build"} & set(each.parts)
    ]


def _build(directory: Path) -> None:
    _wheels(ROOT / "packages", directory / "now")
    later = directory / "later"
    shutil.copytree(ROOT / "packages", later, ignore=shutil.ignore_patterns("__pycache__"))
    for file in later.glob("*/src/*/__init__.py"):
        _replace(file, _VERSION, f'__version__ = "{NEXT}"')
    wire = later / "worker-core/src/worker_core/wire.py"
    (number,) = _PROTOCOL.findall(wire.read_text())
    _replace(wire, _PROTOCOL, f"PROTOCOL = {int(number) + 1}")
    _wheels(later, directory / "next")
    shutil.rmtree(later)


def _replace(file: Path, pattern: re.Pattern[str], text: str) -> None:
    new, times = pattern.subn(text, file.read_text())
    assert times == 1, f"{file} has {times} lines like {pattern.pattern}"
    file.write_text(new)


def _wheels(packages: Path, into: Path) -> None:
    sources = [packages / name for name in NAMES]
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", into, *sources)


def _needed() -> list[str]:
    texts = [(ROOT / "packages" / name / "pyproject.toml").read_text("utf-8") for name in NAMES]
    needed = [each for text in texts for each in tomllib.loads(text)["project"]["dependencies"]]
    return [each for each in needed if not each.startswith(NAMES)]


def _download(wanted: list[str], suite: str, directory: Path) -> None:
    """Fetch for the machine's interpreter and C library, not for those that run this."""
    python, (_, newest) = SUITES[suite]
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(newest, 16, -1)]
    platforms += ["manylinux2014_x86_64", "linux_x86_64"]
    options = [f"--platform={each}" for each in platforms]
    options += ["--only-binary=:all:", f"--python-version={python}"]
    _pip("download", *options, "-d", directory, *wanted)


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pytest.exit(f"{' '.join(map(str, command))}:\n{done.stderr}")
