"""worker complete: what the scripts of `worker completion` ask; no person types it."""

from __future__ import annotations

from worker_cli import exits, terminal
from worker_cli.options import Action, Args


def run(args: Args) -> int:
    """Print what the last of the words could be, a line each: word, tab, what it means."""
    from worker_cli import completing

    for word, about in completing.candidates(args.operands):
        terminal.say(f"{word}\t{about}")
    return exits.DONE


ACTION = Action(
    "complete",
    run,
    summary="print what a word could be completed to",
    operands="WORD …",
    most=None,
    about=__doc__ or "",
    options_end_at_operand=True,
)
