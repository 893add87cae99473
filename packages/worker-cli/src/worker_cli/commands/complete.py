"""worker complete: what the scripts of `worker completion` ask; no person types it."""

from __future__ import annotations

import os
import signal

from worker_cli import exits
from worker_cli.options import Action, Args
from worker_cli.ui import terminal

_SECONDS = 3.0


def run(args: Args) -> int:
    """Print what the last of the words could be, a line each: word, tab, what it means."""
    from worker_cli.ui import completion

    # Whoever presses the tab key does not wait for a server that does not answer.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(exits.NO_ANSWER))
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    for word, about in completion.candidates(args.operands):
        terminal.print_line(f"{word}\t{about}")
    # At its end Python gives signals back to the system, and this one would then end it.
    signal.setitimer(signal.ITIMER_REAL, 0)
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
