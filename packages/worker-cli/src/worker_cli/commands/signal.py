"""worker signal: send a signal to a job's processes, without killing the job."""

from __future__ import annotations

from worker_cli import exits, options
from worker_cli.commands import common
from worker_cli.options import Action, Args
from worker_cli.ui import terminal

_NAMES = ("HUP", "INT", "USR1", "USR2", "STOP", "CONT", "WINCH", "QUIT", "TERM", "ALRM")


def run(args: Args) -> int:
    """Send the signal."""
    from worker_cli import ids

    text, signal = args.operands
    with common.connect(args) as client:
        job_id = ids.resolve(client, text)
        client.signal(job_id, signal)
        terminal.print_line(f"{job_id} signalled")
    return exits.DONE


ACTION = Action(
    "signal",
    run,
    summary="send a signal to a job",
    operands="ID SIGNAL",
    least=2,
    most=2,
    about=(
        "Send a signal, by name or number, to every process of a job. If the job ends because of "
        "it, its status is failed, not killed. To stop a job, use worker kill."
    ),
    examples=(
        ("worker signal 0f3c HUP", "let a server reload its configuration"),
        ("worker signal 0f3c STOP", "pause it; CONT resumes it"),
    ),
    completes=(options.LIVE_JOB, _NAMES, ()),
)
