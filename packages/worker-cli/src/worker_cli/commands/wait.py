"""worker wait: wait until jobs have ended, and exit with their exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker_cli import errors, exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.job import JobStatus
    from worker_cli.ui import progress

_POLL_SECONDS = 30.0  # how often to check whether the status or its reason has changed


def run(args: Args) -> int:
    """Wait for each job and print its status."""
    from worker_cli.ui import progress, render

    with common.connect(args) as client, progress.Line() as line:
        jobs = common.resolve_jobs(client, args.operands)
        remaining = len(jobs)

        def wait(job_id: str) -> int:
            nonlocal remaining
            status = client.status(job_id)
            if not status.ended:
                line.announce(lambda: f"waiting for {remaining} of {len(jobs)}: {job_id}")
                status = _wait(client, status, line)
            remaining -= 1
            if not args.has(common.QUIET):
                line.clear()
                terminal.print_line(f"{job_id} {render.outcome(status)}")
            return exits.of_job(status)

        return common.for_each(jobs, wait)


def _wait(client: Client, status: JobStatus, line: progress.Line) -> JobStatus:
    """Return the status at the end of the job.

    If the job stays in "stopping" with a reason, such as a full disk on the server, report it once.
    """
    from worker_cli.ui import render

    job_id, reported = status.id, False
    try:
        while not status.ended:
            if status.status == "stopping" and status.reason and not reported:
                reported = True
                line.clear()
                terminal.note(f"job {job_id}: {render.outcome(status)}")
            status = client.wait(job_id, _POLL_SECONDS)
        return status
    except KeyboardInterrupt:
        terminal.note(f"detached; the job keeps running. To wait again: worker wait {job_id}")
        raise
    except errors.Unreachable as error:
        raise type(error)(
            f"{error}; the job may still run, to wait again: worker wait {job_id}"
        ) from error


ACTION = Action(
    "wait",
    run,
    summary="wait until jobs have ended; exit with their code",
    operands="ID [ID …]",
    least=1,
    most=None,
    about=(
        "Wait until all jobs have ended and print the status of each. The exit code is that of "
        "`run --wait`; with several jobs, the first that is not 0, in the order of the ids. "
        "125 means that the server did not answer, or that the job is lost."
    ),
    options=(common.QUIET,),
    examples=(
        ("id=$(worker run make) && worker wait $id && echo built", "in a script"),
        ("worker wait $(worker list -q --status running)", "wait for all running jobs"),
    ),
    completes=(options.LIVE_JOB,),
)
