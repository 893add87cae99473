"""worker status: print a job's status."""

from __future__ import annotations

import sys

from worker_cli import options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import humanize, terminal

_MAX_CLOCK_DIFFERENCE = 60.0  # seconds


def run(args: Args) -> int:
    """Print the status of a job."""
    from worker_cli import ids
    from worker_cli.ui import render

    common.check_one_format(args)
    with common.connect(args) as client:
        job_id = ids.resolve(client, args.operands[0])
        if args.has(common.QUIET):
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
    """Warn if the clocks differ, because the times of jobs are then misleading."""
    if abs(ahead) > _MAX_CLOCK_DIFFERENCE:
        where = "ahead of" if ahead > 0 else "behind"
        terminal.note(
            f"the server's clock is {humanize.duration(abs(ahead))} {where} this machine's; "
            "the times of jobs are by the server's clock"
        )


ACTION = Action(
    "status",
    run,
    summary="print a job's status",
    operands="ID",
    least=1,
    most=1,
    about=(
        "Print the status of a job: a word and, in brackets, details such as its exit code. On a "
        "terminal, print what else is known about it.\n\n"
        "A job is queued, running or stopping, and then completed (exit code 0), failed, skipped "
        "(it waited for something that can no longer happen), killed, timed_out, out_of_memory, "
        "or lost (its end could not be observed)."
    ),
    options=(common.QUIET, common.FORMAT),
    examples=(
        ("worker status 0f3c", "by the first characters of its id"),
        ("worker status -q @last", "only the word, for the newest job"),
        ("worker status -o json 0f3c", "the full record, as JSON"),
    ),
    completes=(options.JOB,),
)
