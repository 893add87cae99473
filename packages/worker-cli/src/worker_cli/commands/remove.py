"""worker remove: forget finished jobs and their output."""

from __future__ import annotations

from worker_cli import exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Remove each job."""
    with common.connect(args) as client:

        def remove(job_id: str) -> int:
            client.remove(job_id)
            terminal.print_line(f"{job_id} removed")
            return exits.DONE

        return common.for_each(common.resolve_jobs(client, args.operands), remove)


ACTION = Action(
    "remove",
    run,
    summary="forget finished jobs and their output",
    operands="ID [ID …]",
    least=1,
    most=None,
    about="Remove the record and the output of finished jobs. A job that runs is not touched.",
    examples=(("worker remove 0f3c 77ab", "two jobs; to stop one that runs, kill it first"),),
    completes=(options.ENDED_JOB,),
)
