"""worker release: release held jobs, so that they can start."""

from __future__ import annotations

from worker_cli import exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Release each job."""
    with common.connect(args) as client:

        def release(job_id: str) -> int:
            client.release(job_id)
            terminal.print_line(f"{job_id} released")
            return exits.DONE

        return common.for_each(common.resolve_jobs(client, args.operands), release)


ACTION = Action(
    "release",
    run,
    summary="release held jobs",
    operands="ID [ID …]",
    least=1,
    most=None,
    about="Release held jobs, so that they start when it is their turn.",
    examples=(("worker release 0f3c", "the opposite of: worker hold 0f3c"),),
    completes=(options.LIVE_JOB,),
)
