"""The actions, one module each; `load` imports only the module of one action."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from worker_cli.commands.common import EVERYWHERE as EVERYWHERE

if TYPE_CHECKING:
    from worker_cli.options import Action

GROUPS = (
    ("Jobs", ("run", "status", "out", "kill", "list", "wait", "signal", "remove", "prune")),
    ("Waiting jobs", ("why", "hold", "release", "update")),
    ("Server and login", ("login", "logout", "whoami", "version")),
    ("This command", ("help", "completion")),
)
NAMES = tuple(name for _, names in GROUPS for name in names)
HIDDEN = ("complete",)
"""The scripts that `completion` prints call it; users do not type it."""


def load(name: str) -> Action:
    """Return an action by its name."""
    action: Action = importlib.import_module(f"{__name__}.{name}").ACTION
    return action


def find(name: str) -> Action:
    """Return an action by the name that a user typed; raise UsageError for an unknown one."""
    if name in (*NAMES, *HIDDEN):
        return load(name)
    from worker_cli import errors, suggestions

    raise errors.UsageError(f"unknown action {name}{suggestions.action(name, NAMES)}")
