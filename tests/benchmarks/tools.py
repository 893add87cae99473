"""The programs that baselines are made of: found, compiled, or named as missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"

_WHERE = {
    "gcc": "apt-get install gcc libc6-dev",
    "wrk": "apt-get install wrk",
    "nginx": "apt-get install nginx-light",
    "curl": "apt-get install curl",
    "tsp": "apt-get install task-spooler",
    "nq": "apt-get install nq",
    "hyperqueue": "pip install hyperqueue",
}


class MissingToolError(Exception):
    """A tool is not installed; says how to get it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed ({_WHERE[name]})")


def find(name: str) -> str:
    """Return the path of a program; raise MissingToolError."""
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise MissingToolError(name)
    return path


def need_module(name: str) -> None:
    """Raise MissingToolError unless a Python module is installed."""
    if importlib.util.find_spec(name) is None:
        raise MissingToolError(name)


def compiled(name: str, directory: Path) -> str:
    """Return a program of ours in C, compiled into `directory`; raise MissingToolError."""
    made = directory / name
    if not made.exists():
        source = PROGRAMS / f"{name}.c"
        subprocess.run([find("gcc"), "-O2", "-Wall", "-o", made, source], check=True)
    return str(made)
