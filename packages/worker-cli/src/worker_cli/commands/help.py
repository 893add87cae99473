"""worker help: print the help texts."""

from __future__ import annotations

from worker_cli import exits, options
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Print the help of one action, or of the whole command."""
    from worker_cli import commands
    from worker_cli.ui import help_texts

    if args.operands:
        terminal.print_line(help_texts.of_action(commands.find(args.operands[0])))
    else:
        terminal.print_line(help_texts.overview())
    return exits.DONE


ACTION = Action(
    "help",
    run,
    summary="print the actions, or the help of one",
    operands="[ACTION]",
    most=1,
    about="Print all actions, or the help of one, as worker ACTION --help does.",
    examples=(("worker help run", "everything about run"),),
    completes=(options.ACTION,),
)
