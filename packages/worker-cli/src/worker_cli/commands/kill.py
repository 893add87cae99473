"""worker kill: kill jobs, and print the status of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker_cli import errors, exits, options, parsing
from worker_cli.commands import common
from worker_cli.options import Action, Args, Flag, Option
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.job import JobStatus

SIGNAL = Option(
    "--signal",
    metavar="SIGNAL",
    parse=parsing.text,
    about="send this signal first (default: the job's stop signal)",
)
NOW = Flag("--now", about="send SIGKILL at once")
REASON = Option("--reason", metavar="TEXT", parse=parsing.text, about="why; saved with the job")

_WAIT_SECONDS = 10.0
_SLACK_SECONDS = 20.0

_BY_ITSELF = "ended by itself before it was killed"
_EXPLANATIONS = {
    "completed": _BY_ITSELF,
    "failed": _BY_ITSELF,
    "timed_out": "was stopped because of its --timeout",
    "out_of_memory": "was stopped because it ran out of memory",
    "lost": "was stopped; its exit status is unknown",
}
_OTHER = "ended for another reason"  # a status that only a newer server knows


def run(args: Args) -> int:
    """Send all kill requests, then wait for the jobs to end."""
    if args.has(NOW) and args.has(common.GRACE):
        raise errors.UsageError("--now and --grace cannot be combined")
    request: dict[str, Any] = {
        "signal": args.get(SIGNAL),
        "grace": args.get(common.GRACE),
        "now": args.has(NOW),
        "reason": args.get(REASON),
    }
    grace = 0.0 if args.has(NOW) else args.get(common.GRACE)
    statuses: dict[str, str] = {}
    with common.connect(args) as client:
        jobs = common.resolve_jobs(client, args.operands)
        # With several jobs, all requests are sent before waiting for the first job.
        request["wait"] = _WAIT_SECONDS if len(jobs) == 1 else 0.0

        def request_kill(job_id: str) -> int:
            statuses[job_id] = _request_kill(client, job_id, request)
            return exits.DONE

        refused = common.for_each(jobs, request_kill)
        not_killed = common.for_each(
            [*statuses], lambda job_id: _report_end(client, job_id, statuses[job_id], grace)
        )
    return refused or not_killed


def _request_kill(client: Client, job_id: str, request: dict[str, Any]) -> str:
    try:
        return client.kill(job_id, **request)
    except errors.ConnectionLost as error:
        raise errors.ConnectionLost(
            f"{error}; whether the job was killed is not known, see: worker status {job_id}"
        ) from error


def _report_end(client: Client, job_id: str, last_status: str, grace: float | None) -> int:
    """Wait for a job to end after a kill request, and print its status."""
    from worker_cli.ui import render

    status = None if last_status == "killed" else _wait_for_end(client, job_id, grace)
    if status is None or status.status == "killed":
        terminal.print_line(f"{job_id} killed")
        return exits.DONE
    terminal.print_line(f"{job_id} {render.outcome(status)}")
    explanation = _EXPLANATIONS.get(status.status, _OTHER) if status.ended else "has not ended yet"
    terminal.note(f"job {job_id} {explanation}")
    return exits.REFUSED


def _wait_for_end(client: Client, job_id: str, grace: float | None) -> JobStatus:
    """Return a job's status at its end, or when it should have ended long ago.

    Without `grace`, the job's own grace applies. It is requested only if the job is still running
    after the usual grace.
    """
    status = client.wait(job_id, (grace or _WAIT_SECONDS) + _SLACK_SECONDS)
    if status.ended or grace is not None:
        return status
    record = client.get(job_id)
    own_grace = record.spec.get("stop_grace")
    if not isinstance(own_grace, int | float) or own_grace <= _WAIT_SECONDS:
        return record
    return client.wait(job_id, own_grace - _WAIT_SECONDS)


ACTION = Action(
    "kill",
    run,
    summary="kill jobs and everything they started",
    operands="ID [ID …]",
    least=1,
    most=None,
    about=(
        "Send each job its stop signal, and SIGKILL after the grace; then wait for its end and "
        "print its status. The exit code is 0 if all jobs were killed by this command. It is 1 if "
        "one was not: it is unknown, had already ended, ended by itself or for another reason, or "
        "did not end in time."
    ),
    options=(SIGNAL, common.GRACE, NOW, REASON),
    examples=(
        ("worker kill @last", "kill the newest job"),
        ("worker kill --signal INT --grace 1m 0f3c", "send SIGINT, and SIGKILL after a minute"),
        ("worker kill --now 0f3c 77ab", "kill two jobs at once"),
    ),
    completes=(options.LIVE_JOB,),
)
