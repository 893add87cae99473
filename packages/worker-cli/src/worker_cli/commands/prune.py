"""worker prune: forget many finished jobs at once."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from worker_cli import errors, exits, parsing
from worker_cli.commands import common
from worker_cli.job import FINAL
from worker_cli.options import Action, Args, Flag, Option
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.job import JobRecord

OLDER = Option(
    "--older-than",
    metavar="TIME",
    parse=parsing.duration,
    about="only those that ended so long ago",
)
STATUS = Option(
    "--status",
    metavar="WORD",
    parse=parsing.one_of(*FINAL),
    about=f"only jobs in this state; repeatable: {', '.join(FINAL)}",
    completes=FINAL,
)
LABEL = Option(
    "--label", metavar="K=V", parse=parsing.pair, about="only jobs with this label; repeatable"
)
YES = Flag("-y", "--yes", about="do not ask")


def run(args: Args) -> int:
    """Find the jobs, ask, and remove them."""
    labels = common.labels(args, LABEL)
    with common.connect(args) as client:
        jobs = _finished(client, args, labels)
        if not jobs:
            terminal.note("no finished jobs to remove")
            return exits.DONE
        if not args.has(YES) and not _agreed(client, jobs):
            terminal.note("nothing was removed")
            return exits.REFUSED
        return common.for_each([each.id for each in jobs], lambda job_id: _remove(client, job_id))


def _finished(client: Client, args: Args, labels: dict[str, str]) -> list[JobRecord]:
    older = args.get(OLDER)
    before = None if older is None else timedelta(seconds=older)
    return [*client.list(status=args.all(STATUS) or FINAL, labels=labels, ended_before=before)]


def _agreed(client: Client, jobs: list[JobRecord]) -> bool:
    """Show a person what is to go, and ask."""
    if not terminal.is_terminal(sys.stdin):
        raise errors.UsageError("prune asks before it removes; without a terminal it needs --yes")
    from worker_cli.ui import render

    sys.stderr.write(render.table(jobs, client.server_time(), terminal.width(sys.stderr)) + "\n")
    what = "1 finished job and its" if len(jobs) == 1 else f"{len(jobs)} finished jobs and their"
    sys.stderr.write(f"Remove {what} output? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(client: Client, job_id: str) -> int:
    try:
        client.remove(job_id)
    except errors.JobNotFound:  # somebody else, or the server's retention, was faster
        return exits.DONE
    terminal.print_line(f"{job_id} removed")
    return exits.DONE


ACTION = Action(
    "prune",
    run,
    summary="forget all finished jobs, or the older ones",
    about="Remove the records and the output of finished jobs, after a question.",
    options=(OLDER, STATUS, LABEL, YES),
    examples=(
        ("worker prune --older-than 7d", "what ended more than a week ago"),
        ("worker prune --status completed --yes", "what went well, without a question"),
    ),
)
