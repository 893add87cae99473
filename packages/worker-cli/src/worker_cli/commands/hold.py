"""worker hold: keep waiting jobs from starting."""

from __future__ import annotations

from worker_cli import exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal


def run(args: Args) -> int:
    """Hold each job."""
    with common.connect(args) as client:

        def hold(job_id: str) -> int:
            client.hold(job_id)
            terminal.print_line(f"{job_id} held")
            return exits.DONE

        return common.for_each(common.resolve_jobs(client, args.operands), hold)


ACTION = Action(
    "hold",
    run,
    summary="keep waiting jobs from starting",
    operands="ID [ID …]",
    least=1,
    most=None,
    about="Keep waiting jobs from starting until they are released. Running jobs are not changed.",
    examples=(("worker hold 0f3c", "it waits until: worker release 0f3c"),),
    completes=(options.LIVE_JOB,),
)
