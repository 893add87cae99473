"""worker remove: delete finished jobs and their output."""

from __future__ import annotations

from worker_cli import exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Delete each job."""
    with common.connect(args) as client:

        def remove(job_id: str) -> int:
            client.remove(job_id)
            terminal.print_line(f"{job_id} removed")
            return exits.DONE

        return common.for_each(common.resolve_jobs(client, args.operands), remove)


ACTION = Action(
    "remove",
    run,
    summary="delete finished jobs and their output",
    operands="ID [ID …]",
    least=1,
    most=None,
    about="Delete the record and the output of finished jobs. A running job must be killed first.",
    examples=(("worker remove 0f3c 77ab", "delete two finished jobs"),),
    completes=(options.ENDED_JOB,),
)
