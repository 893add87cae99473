"""worker why: print what keeps a job from starting."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from worker_cli import exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import humanize, render, terminal


def run(args: Args) -> int:
    """Print one reason per line."""
    from worker_cli import ids

    with common.connect(args) as client:
        status = client.status(ids.resolve(client, args.operands[0]))
    if status.status != "queued":
        terminal.print_line(f"it does not wait: {render.outcome(status)}")
        return exits.DONE
    # A server of release 0.1.0 knows only one reason.
    texts = [_text(gate) for gate in status.waiting] or [status.reason or "about to start"]
    for text in texts:
        terminal.print_line(humanize.clean(text))
    return exits.DONE


def _text(gate: Mapping[str, Any]) -> str:
    text, until = str(gate.get("text")), gate.get("until")
    if not isinstance(until, str):
        return text
    return f"{text} ({humanize.moment(datetime.fromisoformat(until))})"


ACTION = Action(
    "why",
    run,
    summary="print why a job has not started",
    operands="ID",
    least=1,
    most=1,
    about="Print everything that keeps a job from starting, one reason per line.",
    examples=(("worker why @last", "why the newest job has not started"),),
    completes=(options.LIVE_JOB,),
)
