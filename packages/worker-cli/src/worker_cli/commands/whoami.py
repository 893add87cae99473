"""worker whoami: print the user name that the server knows you by."""

from __future__ import annotations

from worker_cli import exits
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import humanize, terminal


def run(args: Args) -> int:
    """Ask the server and print the user's name."""
    with common.connect(args) as client:
        answer = client.whoami()
        if not common.print_json(args, answer):
            terminal.print_line(humanize.clean(str(answer.get("user", client.user))))
    return exits.DONE


ACTION = Action(
    "whoami",
    run,
    summary="print your user name on the server",
    about="Print your user name on the server. This also checks the address, CA and password.",
    options=(common.FORMAT,),
    examples=(("worker whoami", "print your user name"),),
)
