"""worker complete: called by the scripts of `worker completion`; nobody types it."""

from __future__ import annotations

import os
import signal

from worker_cli import exits
from worker_cli.options import Action, Args
from worker_cli.ui import terminal

_SECONDS = 3.0


def run(args: Args) -> int:
    """Print the candidates for the last word, one per line: the word, a tab, its meaning."""
    from worker_cli.ui import completion

    # The shell hangs until we exit, so do not wait for a server that does not answer.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(exits.NO_ANSWER))
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    for word, about in completion.candidates(args.operands):
        terminal.print_line(f"{word}\t{about}")
    # At exit Python restores the default action of signals, and SIGALRM would then kill us.
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
