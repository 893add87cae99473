"""worker version: print the versions of this client and of the server."""

from __future__ import annotations

from worker_cli import __version__, errors, exits
from worker_cli.commands import common
from worker_cli.options import Action, Args, Flag
from worker_cli.ui import humanize, terminal

CLIENT = Flag("--client", about="do not ask the server")


def run(args: Args) -> int:
    """Print both versions; first the client's, which needs no server."""
    terminal.print_line(f"worker {__version__}")
    if args.has(CLIENT):
        return exits.DONE
    try:
        with common.connect(args) as client:
            server = client.version().get("version", "unknown")
            terminal.print_line(f"workerd {humanize.clean(str(server))} at {client.server}")
    except (errors.NotLoggedIn, errors.Unreachable) as error:
        # Not a failure: versions are often printed to report that the server does not answer.
        terminal.note(str(error))
    return exits.DONE


ACTION = Action(
    "version",
    run,
    summary="print the versions of client and server",
    about="Print the version of this client, then the server's version if it answers.",
    options=(CLIENT,),
    examples=(("worker version --client", "without asking the server, as worker --version"),),
)
