"""The actions, one module each; `load` imports the one that is asked for and no other."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from worker_cli.commands.common import EVERYWHERE as EVERYWHERE

if TYPE_CHECKING:
    from worker_cli.options import Action

GROUPS = (
    ("Jobs", ("run", "status", "out", "kill", "list", "wait", "signal", "remove", "prune")),
    ("Server and login", ("login", "logout", "whoami", "version")),
    ("This command", ("help", "completion")),
)
NAMES = tuple(name for _, names in GROUPS for name in names)
HIDDEN = ("complete",)
"""For the scripts that `completion` prints; no person types it."""


def load(name: str) -> Action:
    """Return an action by its name."""
    action: Action = importlib.import_module(f"{__name__}.{name}").ACTION
    return action
