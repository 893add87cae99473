"""worker list: the user's own jobs."""

from __future__ import annotations

import sys
from datetime import timedelta

from worker_cli import parsing
from worker_cli.commands import common
from worker_cli.job import FINAL, LIVE
from worker_cli.options import Action, Args, Flag, Option
from worker_cli.ui import terminal

_DEFAULT_LIMIT = 50

STATUS = Option(
    "--status",
    metavar="WORD",
    parse=parsing.one_of(*LIVE, *FINAL),
    about=f"only jobs in this state; repeatable: {', '.join((*LIVE, *FINAL))}",
    completes=(*LIVE, *FINAL),
)
LABEL = Option(
    "--label", metavar="K=V", parse=parsing.pair, about="only jobs with this label; repeatable"
)
NAME = Option("--name", metavar="NAME", parse=parsing.text, about="only jobs with this name")
SINCE = Option(
    "--since", metavar="TIME", parse=parsing.duration, about="only jobs created since: 90s, 2h, 7d"
)
LIMIT = Option(
    "-n",
    metavar="N",
    parse=parsing.count,
    about=f"at most N jobs, 0 is all; not given, a terminal gets {_DEFAULT_LIMIT}, a program all",
)
QUIET = Flag("-q", "--quiet", about="the ids alone, one a line")


def run(args: Args) -> int:
    """Print the jobs, newest first."""
    from worker_cli.ui import render

    common.check_one_format(args, QUIET)
    limit, labels = _limit(args), common.labels(args, LABEL)
    with common.connect(args) as client:
        since = args.get(SINCE)
        jobs = client.list(
            status=args.all(STATUS),
            labels=labels,
            name=args.get(NAME),
            since=None if since is None else timedelta(seconds=since),
            limit=limit or None,
        )
        form = args.get(common.FORMAT)
        if args.has(QUIET):
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
                terminal.note(f"the newest {limit} jobs; there may be more: worker list -n 0")
        else:
            _note_none(args)
    return 0


def _limit(args: Args) -> int | None:
    """Return how many jobs to show at most: a program would not see that there are more."""
    if args.has(LIMIT):
        return args.get(LIMIT)
    table = not args.has(QUIET) and args.get(common.FORMAT) in (None, "table")
    return _DEFAULT_LIMIT if table and terminal.is_terminal(sys.stdout) else None


def _note_none(args: Args) -> None:
    """Say to a person that there is nothing; a program sees that there is nothing."""
    if not terminal.is_terminal(sys.stderr):
        return
    if any(args.has(option) for option in (STATUS, LABEL, NAME, SINCE)):
        terminal.note("no such jobs")
    else:
        terminal.note("no jobs yet; start one with: worker run echo hello")


ACTION = Action(
    "list",
    run,
    summary="list your jobs, newest first",
    about=(
        "List your own jobs, newest first. The table is for people and is cut to fit the "
        "terminal; programs read -o json, -o jsonl or -q. A terminal shows the newest "
        f"{_DEFAULT_LIMIT}; with one of these options, into a pipe or a file, all are listed. "
        "-n says otherwise.\n\n"
        "There is no option for the jobs of others: an administrator of the server reaches them "
        "over its HTTP API, with ?owner=NAME, or ?owner=* for everybody's."
    ),
    options=(STATUS, LABEL, NAME, SINCE, LIMIT, QUIET, common.FORMAT),
    examples=(
        ("worker list --status running --status queued", "what has not ended"),
        ("worker list --label project=site -n 0", "every job with that label, on a terminal too"),
        ("worker kill $(worker list -q --name nightly --status running)", "stop jobs by name"),
    ),
)
