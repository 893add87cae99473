"""worker wait: until jobs have ended; exits as they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker_cli import errors, exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args, Flag
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.job import JobStatus
    from worker_cli.ui import progress

_LOOK_SECONDS = 30.0  # after which it is looked whether the state has changed

QUIET = Flag("-q", "--quiet", about="print nothing")


def run(args: Args) -> int:
    """Wait for each job and print what became of it."""
    from worker_cli.ui import progress, render

    with common.connect(args) as client, progress.Line() as line:
        jobs = common.resolve_jobs(client, args.operands)
        left = len(jobs)

        def wait(job_id: str) -> int:
            nonlocal left
            status = client.status(job_id)
            if not status.ended:
                line.announce(lambda: f"waiting for {left} of {len(jobs)}: {job_id}")
                status = _wait(client, status, line)
            left -= 1
            if not args.has(QUIET):
                line.clear()
                terminal.print_line(f"{job_id} {render.outcome(status)}")
            return exits.of_job(status)

        return common.for_each(jobs, wait)


def _wait(client: Client, status: JobStatus, line: progress.Line) -> JobStatus:
    """Return the state at the end; until then say once why the end of its process is not known."""
    from worker_cli.ui import render

    job_id, noted = status.id, False
    try:
        while not status.ended:
            if status.status == "stopping" and status.reason and not noted:
                noted = True
                line.clear()
                terminal.note(f"job {job_id}: {render.outcome(status)}")
            status = client.wait(job_id, _LOOK_SECONDS)
        return status
    except KeyboardInterrupt:
        terminal.note(f"the job is not touched; back to it: worker wait {job_id}")
        raise
    except errors.Unreachable as error:
        raise type(error)(
            f"{error}; the job may go on, back to it: worker wait {job_id}"
        ) from error


ACTION = Action(
    "wait",
    run,
    summary="wait until jobs have ended; exit as they did",
    operands="ID [ID …]",
    least=1,
    most=None,
    about=(
        "Wait until every job has ended and print what became of each. The exit code is that of "
        "`run --wait`; of several jobs it is the first that is not 0, in the order given. "
        "125 means that the server could not be asked, or that nobody saw the job's end (lost)."
    ),
    options=(QUIET,),
    examples=(
        ("id=$(worker run make) && worker wait $id && echo built", "in a script"),
        ("worker wait $(worker list -q --status running)", "everything that runs"),
    ),
    completes=(options.LIVE_JOB,),
)
