"""worker logout: forget the password."""

from __future__ import annotations

from worker_cli import exits
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Remove what login has stored for the server."""
    from worker_cli.settings import config, credentials

    settings = config.load(common.overrides(args))
    users = credentials.delete(settings)
    who = f"the password of {', '.join(users)}" if users else "there was no password"
    terminal.note(f"{who} for {settings.server}{' is forgotten' if users else ''}")
    return exits.DONE


ACTION = Action(
    "logout",
    run,
    summary="forget the password",
    about=(
        "Remove the password that login has stored for this server and user. The settings in "
        "config.toml stay, and so do the jobs."
    ),
    examples=(("worker logout --profile lab", "of that profile's server"),),
)
