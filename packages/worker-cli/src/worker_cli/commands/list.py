"""worker list: list the user's own jobs."""

from __future__ import annotations

import sys
from datetime import timedelta

from worker_cli import parsing
from worker_cli.commands import common
from worker_cli.options import Action, Args, Option
from worker_cli.ui import terminal

_DEFAULT_LIMIT = 50

NAME = Option("--name", metavar="NAME", parse=parsing.text, about="only jobs with this name")
SINCE = Option(
    "--since", metavar="TIME", parse=parsing.duration, about="only jobs created since: 90s, 2h, 7d"
)
LIMIT = Option(
    "-n",
    metavar="N",
    parse=parsing.count,
    about=f"show at most N jobs, 0 for all (default: {_DEFAULT_LIMIT} on a terminal, else all)",
)


def run(args: Args) -> int:
    """Print the jobs, newest first."""
    from worker_cli.ui import render

    common.check_one_format(args)
    limit, labels = _limit(args), common.labels(args)
    with common.connect(args) as client:
        since = args.get(SINCE)
        jobs = client.list(
            status=args.all(common.STATUS),
            labels=labels,
            name=args.get(NAME),
            since=None if since is None else timedelta(seconds=since),
            limit=limit or None,
        )
        form = args.get(common.FORMAT)
        if args.has(common.QUIET):
            for job in jobs:
                terminal.print_line(job.id)
        elif form == "jsonl":
            for job in jobs:
                terminal.print_line(render.as_json_lines([job.raw]))
        elif form == "json":
            terminal.print_line(render.as_json([job.raw for job in jobs]))
        elif records := list(jobs):
            terminal.print_line(
                render.table(records, client.server_time(), terminal.width(sys.stdout))
            )
            if not args.has(LIMIT) and len(records) == limit:
                terminal.note(f"only the newest {limit} jobs are shown; for all: worker list -n 0")
        else:
            _note_none(args)
    return 0


def _limit(args: Args) -> int | None:
    """Return the maximum number of jobs; only a table on a terminal has one by default."""
    if args.has(LIMIT):
        return args.get(LIMIT)
    table = not args.has(common.QUIET) and args.get(common.FORMAT) in (None, "table")
    return _DEFAULT_LIMIT if table and terminal.is_terminal(sys.stdout) else None


def _note_none(args: Args) -> None:
    """Report on a terminal that the list is empty; a program sees that by itself."""
    if not terminal.is_terminal(sys.stderr):
        return
    if any(args.has(option) for option in (common.STATUS, common.LABEL, NAME, SINCE)):
        terminal.note("no matching jobs")
    else:
        terminal.note("no jobs yet; start one with: worker run echo hello")


ACTION = Action(
    "list",
    run,
    summary="list your jobs, newest first",
    about=(
        "List your own jobs, newest first. The table is for people and is truncated to the width "
        "of the terminal; programs use -o json, -o jsonl or -q. By default, the table on a "
        f"terminal shows the newest {_DEFAULT_LIMIT} jobs; otherwise all jobs are listed.\n\n"
        "There is no option for other users' jobs. Administrators of the server can list them "
        "with its HTTP API: GET /jobs?owner=NAME, or ?owner=* for all users."
    ),
    options=(
        common.STATUS,
        common.LABEL,
        NAME,
        SINCE,
        LIMIT,
        common.QUIET,
        common.FORMAT,
    ),
    examples=(
        ("worker list --status running --status queued", "jobs that run or wait in the queue"),
        ("worker list --label project=site -n 0", "all jobs with that label"),
        ("worker kill $(worker list -q --name nightly --status running)", "stop jobs by name"),
    ),
)
