"""worker kill: stop jobs, and say what became of each."""

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
    "--signal", metavar="SIGNAL", parse=parsing.text, about="send this first (its stop signal)"
)
GRACE = Option(
    "--grace",
    metavar="TIME",
    parse=parsing.duration,
    about="how long after that it is stopped by force",
)
NOW = Flag("--now", about="stop by force at once")
REASON = Option("--reason", metavar="TEXT", parse=parsing.text, about="why; kept with the job")

_WAIT_SECONDS = 10.0
_SLACK_SECONDS = 20.0

_BY_ITSELF = "ended by itself before it was stopped"
_ENDS = {
    "completed": _BY_ITSELF,
    "failed": _BY_ITSELF,
    "timed_out": "was stopped because its time was up",
    "out_of_memory": "was stopped because it was out of memory",
    "lost": "is stopped, but nobody saw its end",
}
_OTHER_END = "has ended, but not by this"  # a newer server's word


def run(args: Args) -> int:
    """Ask all jobs to stop, then see them end."""
    if args.has(NOW) and args.has(GRACE):
        raise errors.UsageError("--now leaves no time for --grace")
    request: dict[str, Any] = {
        "signal": args.get(SIGNAL),
        "grace": args.get(GRACE),
        "now": args.has(NOW),
        "reason": args.get(REASON),
    }
    grace = 0.0 if args.has(NOW) else args.get(GRACE)
    asked: dict[str, str] = {}
    with common.connect(args) as client:
        jobs = common.resolve_jobs(client, args.operands)
        # Several are all asked before the first is waited for.
        request["wait"] = _WAIT_SECONDS if len(jobs) == 1 else 0.0
        refused = common.for_each(jobs, lambda each: _request_kill(client, each, request, asked))
        seen = common.for_each([*asked], lambda each: _report_end(client, each, asked[each], grace))
    return refused or seen


def _request_kill(
    client: Client, job_id: str, request: dict[str, Any], asked: dict[str, str]
) -> int:
    try:
        asked[job_id] = client.kill(job_id, **request)
    except errors.ConnectionLost as error:
        raise errors.ConnectionLost(
            f"{error}; whether it stops the job is not known, see: worker status {job_id}"
        ) from error
    return exits.DONE


def _report_end(client: Client, job_id: str, word: str, grace: float | None) -> int:
    """Wait for the end of a job that was asked to stop; print what became of it."""
    from worker_cli.ui import render

    status = None if word == "killed" else _end(client, job_id, grace)
    if status is None or status.status == "killed":
        terminal.print_line(f"{job_id} killed")
        return exits.DONE
    terminal.print_line(f"{job_id} {render.outcome(status)}")
    why = _ENDS.get(status.status, _OTHER_END) if status.ended else "has not ended yet"
    terminal.note(f"job {job_id} {why}")
    return exits.REFUSED


def _end(client: Client, job_id: str, grace: float | None) -> JobStatus:
    """Return a job's state at its end, or when it should have been stopped by force long ago.

    Without `grace` its own counts, which is asked for only when it has not ended by then.
    """
    status = client.wait(job_id, (grace or _WAIT_SECONDS) + _SLACK_SECONDS)
    if status.ended or grace is not None:
        return status
    record = client.get(job_id)
    own = record.spec.get("stop_grace")
    if not isinstance(own, int | float) or own <= _WAIT_SECONDS:
        return record
    return client.wait(job_id, own - _WAIT_SECONDS)


ACTION = Action(
    "kill",
    run,
    summary="stop jobs and everything they started",
    operands="ID [ID …]",
    least=1,
    most=None,
    about=(
        "Ask jobs to stop, by force after their grace, wait for their end and print what became "
        "of each. The exit code is 0 when each was stopped by this, and 1 when one was not: it "
        "is unknown, had already ended, ended first by itself or for another reason, or has not "
        "ended in time."
    ),
    options=(SIGNAL, GRACE, NOW, REASON),
    examples=(
        ("worker kill @last", "stop the newest job"),
        ("worker kill --signal INT --grace 1m 0f3c", "as Ctrl-C does, with a minute to tidy up"),
        ("worker kill --now 0f3c 77ab", "two jobs, by force"),
    ),
    completes=(options.LIVE_JOB,),
)
