"""worker update: change when waiting jobs start."""

from __future__ import annotations

from worker_cli import errors, exits, options
from worker_cli.commands import common, queue_options
from worker_cli.options import Action, Args
from worker_cli.ui import terminal

_OPTIONS = (queue_options.PRIORITY, queue_options.AT, queue_options.DELAY)


def run(args: Args) -> int:
    """Change each job."""
    queue_options.check(args)
    if not any(args.has(option) for option in _OPTIONS):
        raise errors.UsageError("update needs --priority N, --at TIME or --delay TIME")
    with common.connect(args) as client:
        jobs = common.resolve_jobs(client, args.operands)
        given = queue_options.fields(args, client)

        def update(job_id: str) -> int:
            client.update(job_id, **given)
            terminal.print_line(f"{job_id} updated")
            return exits.DONE

        result = common.for_each(jobs, update)
        if result == exits.DONE:
            queue_options.note_time(given)
        return result


ACTION = Action(
    "update",
    run,
    summary="change when waiting jobs start",
    operands="ID [ID …]",
    least=1,
    most=None,
    about="Change the priority or the time of jobs that wait. Running jobs are not changed.",
    options=_OPTIONS,
    examples=(
        ("worker update 0f3c --priority 50", "start before your other waiting jobs"),
        ("worker update 0f3c --at now", "start without waiting for its time"),
    ),
    completes=(options.LIVE_JOB,),
)
