"""worker whoami: who the server takes you for."""

from __future__ import annotations

from worker_cli import exits
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import humanize, terminal


def run(args: Args) -> int:
    """Ask the server, and print the user's name."""
    with common.connect(args) as client:
        answer = client.whoami()
        if not common.print_json(args, answer):
            terminal.print_line(humanize.clean(str(answer.get("user", client.user))))
    return exits.DONE


ACTION = Action(
    "whoami",
    run,
    summary="print who the server takes you for",
    about="Ask the server who you are; that also shows that server, CA and password are right.",
    options=(common.FORMAT,),
    examples=(("worker whoami", "your name there"),),
)
