"""worker status: what became of a job."""

from __future__ import annotations

import sys

from worker_cli import options
from worker_cli.commands import common
from worker_cli.options import Action, Args, Flag
from worker_cli.ui import humanize, terminal

QUIET = Flag("-q", "--quiet", about="the word alone")

_CLOCKS_DIFFER = 60.0  # seconds


def run(args: Args) -> int:
    """Print the state of one job."""
    from worker_cli import ids
    from worker_cli.ui import render

    common.check_one_format(args, QUIET)
    with common.connect(args) as client:
        job_id = ids.resolve(client, args.operands[0])
        if args.has(QUIET):
            terminal.print_line(client.status(job_id).status)
        elif args.get(common.FORMAT) not in (None, "table"):
            common.print_json(args, client.get(job_id).raw)
        elif terminal.is_terminal(sys.stdout):
            record = client.get(job_id)
            terminal.print_line(render.details(record, client.server_time()))
        else:
            terminal.print_line(render.outcome(client.status(job_id)))
        _compare_clocks(client.clock_ahead)
    return 0


def _compare_clocks(ahead: float) -> None:
    """Warn if the clocks differ, for then no stamp can be compared with what happened here."""
    if abs(ahead) > _CLOCKS_DIFFER:
        where = "ahead of" if ahead > 0 else "behind"
        terminal.note(
            f"the server's clock is {humanize.duration(abs(ahead))} {where} this machine's; "
            "times of jobs are the server's"
        )


ACTION = Action(
    "status",
    run,
    summary="print what became of a job",
    operands="ID",
    least=1,
    most=1,
    about=(
        "Print the state of a job, a word, and in brackets what came of it. On a terminal the "
        "rest of what a person wants to know follows.\n\n"
        "The words are queued, running and stopping; then completed (exit code 0), failed, "
        "skipped (what it waited for can never come true), killed, timed_out, out_of_memory, and "
        "lost, when the end could not be observed."
    ),
    options=(QUIET, common.FORMAT),
    examples=(
        ("worker status 0f3c", "by the beginning of its id"),
        ("worker status -q @last", "one word for a script, of the newest job"),
        ("worker status -o json 0f3c", "everything that the server knows of it"),
    ),
    completes=(options.JOB,),
)
