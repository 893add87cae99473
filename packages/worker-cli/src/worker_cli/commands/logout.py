"""worker logout: delete the saved password."""

from __future__ import annotations

from worker_cli import exits
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Delete the passwords that login saved for the server."""
    from worker_cli.settings import config, credentials

    settings = config.load(common.overrides(args))
    users = credentials.delete(settings)
    if users:
        whose = ", ".join(users)
        terminal.note(f"the saved password of {whose} for {settings.server} was deleted")
    else:
        terminal.note(f"there was no saved password for {settings.server}")
    return exits.DONE


ACTION = Action(
    "logout",
    run,
    summary="delete the saved password",
    about=(
        "Delete the password that login saved for this server and user. The settings in "
        "config.toml and the jobs are kept."
    ),
    examples=(("worker logout --profile lab", "log out of that profile's server"),),
)
