"""worker prune: delete many finished jobs at once."""

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
    about="only jobs that ended longer ago than this: 90s, 2h, 7d",
)
YES = Flag("-y", "--yes", about="do not ask for confirmation")


def run(args: Args) -> int:
    """Find the jobs, ask for confirmation, and delete them."""
    labels, statuses = common.labels(args), _statuses(args)
    with common.connect(args) as client:
        jobs = _finished(client, args, labels, statuses)
        if not jobs:
            terminal.note("no finished jobs to delete")
            return exits.DONE
        if not args.has(YES) and not _confirmed(client, jobs):
            terminal.note("nothing was deleted")
            return exits.REFUSED
        return common.for_each([job.id for job in jobs], lambda job_id: _remove(client, job_id))


def _statuses(args: Args) -> list[str]:
    statuses = args.all(common.STATUS)
    for status in statuses:
        if status not in FINAL:
            raise errors.UsageError(f"--status {status}: only finished jobs can be deleted")
    return statuses or [*FINAL]


def _finished(
    client: Client, args: Args, labels: dict[str, str], statuses: list[str]
) -> list[JobRecord]:
    older = args.get(OLDER)
    before = None if older is None else timedelta(seconds=older)
    return [*client.list(status=statuses, labels=labels, ended_before=before)]


def _confirmed(client: Client, jobs: list[JobRecord]) -> bool:
    """Show the jobs and ask whether to delete them."""
    if not terminal.is_terminal(sys.stdin):
        raise errors.UsageError("prune needs --yes when there is no terminal to ask on")
    from worker_cli.ui import render

    sys.stderr.write(render.table(jobs, client.server_time(), terminal.width(sys.stderr)) + "\n")
    what = "1 finished job and its" if len(jobs) == 1 else f"{len(jobs)} finished jobs and their"
    sys.stderr.write(f"Delete {what} output? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(client: Client, job_id: str) -> int:
    try:
        client.remove(job_id)
    except errors.JobNotFound:  # it was already deleted, by a user or by the server's retention
        return exits.DONE
    except errors.RequestRefused as error:
        if error.code != "job_needed":
            raise
        terminal.note(f"{job_id} is kept, because another job waits for it")
        return exits.DONE
    terminal.print_line(f"{job_id} removed")
    return exits.DONE


ACTION = Action(
    "prune",
    run,
    summary="delete all finished jobs, or the older ones",
    about="Delete the records and the output of finished jobs, after asking for confirmation.",
    options=(OLDER, common.STATUS, common.LABEL, YES),
    examples=(
        ("worker prune --older-than 7d", "delete jobs that ended more than a week ago"),
        ("worker prune --status completed --yes", "delete successful jobs without asking"),
    ),
)
