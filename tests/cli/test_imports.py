"""Which modules an action imports. How long that takes is measured in tests/benchmarks."""

from __future__ import annotations

import subprocess
import sys

import pytest

ID = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"

SLOW = {
    "argparse",
    "asyncio",
    "difflib",
    "getpass",
    "importlib.resources.simple",
    "keyring",
    "tomlkit",
    "unittest",
    "xml",
}

PROGRAM = """
import sys
from worker_cli.__main__ import main
sys.stdout = sys.stderr = open("/dev/null", "w")
code = main(sys.argv[1:])
sys.__stdout__.write("\\n".join(sys.modules))
"""


ENVIRON = {
    "HOME": "/nonexistent",
    "WORKER_USER": "ann",
    "WORKER_PASSWORD": "secret",
    "WORKER_SERVER": "https://127.0.0.1:1",
    "PATH": "/usr/bin:/bin",
}


def loaded(*words: str) -> set[str]:
    """Return the modules that are loaded at the end of an action."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        env=ENVIRON,
        check=True,
        text=True,
    )
    return set(done.stdout.split())


INTERRUPTED = """
import signal, sys
from importlib.metadata import entry_points

interrupted = sys.argv.pop(1)

class Finder:
    def find_spec(self, name, path, target=None):
        if name == interrupted:
            signal.raise_signal(signal.SIGINT)

(command,) = entry_points(group="console_scripts", name="worker")
sys.meta_path.insert(0, Finder())
sys.exit(command.load()())
"""


@pytest.mark.parametrize(
    "module",
    ["worker_cli.commands", "worker_cli.options", "worker_cli.commands.status", "requests"],
)
def test_ctrl_c_while_modules_load_is_silent(module: str) -> None:
    """A user who presses Ctrl-C at once would get a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "status", "0f3c"],
        capture_output=True,
        env=ENVIRON,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("words", [("status", ID), ("out", ID), ("list",), ("kill", ID)])
def test_actions_load_nothing_slow(words: tuple[str, ...]) -> None:
    """Every command would take longer for something that it does not need."""
    modules = loaded(*words)
    assert "requests" in modules
    assert not modules & SLOW


@pytest.mark.parametrize("words", [("help",), ("help", "run"), ("version", "--client")])
def test_help_needs_no_network_code(words: tuple[str, ...]) -> None:
    """Help, and each press of the tab key, would take five times as long."""
    assert not loaded(*words) & {"requests", "urllib3", "ssl", "platformdirs"}


def test_status_loads_its_own_action_only() -> None:
    """Each new action would make all others slower."""
    modules = loaded("status", ID)
    actions = {each for each in modules if each.startswith("worker_cli.commands.")}
    assert actions == {"worker_cli.commands.common", "worker_cli.commands.status"}
