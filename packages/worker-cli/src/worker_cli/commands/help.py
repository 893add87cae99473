"""worker help: what there is, and how it is used."""

from __future__ import annotations

from worker_cli import exits, options
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Print the help of one action, or of the whole command."""
    from worker_cli import commands, errors
    from worker_cli.ui import help_texts

    if not args.operands:
        terminal.print_line(help_texts.overview())
        return exits.DONE
    name = args.operands[0]
    if name not in commands.NAMES:
        near = options.did_you_mean(name, commands.NAMES)
        raise errors.UsageError(f"unknown action {name}{near}")
    terminal.print_line(help_texts.of_action(commands.load(name)))
    return exits.DONE


ACTION = Action(
    "help",
    run,
    summary="print the actions, or the help of one",
    operands="[ACTION]",
    most=1,
    about="Print what there is, or how one action is used. worker ACTION --help does the same.",
    examples=(("worker help run", "everything about run"),),
    completes=(options.ACTION,),
)
