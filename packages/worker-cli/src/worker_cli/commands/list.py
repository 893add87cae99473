"""worker list: the user's own jobs."""

from __future__ import annotations

import sys

from worker_cli import terminal, values
from worker_cli.commands import common
from worker_cli.job import FINAL, LIVE
from worker_cli.options import Action, Args, Flag, Option

_DEFAULT_LIMIT = 50

STATUS = Option(
    "--status",
    metavar="WORD",
    parse=values.one_of(*LIVE, *FINAL),
    about=f"only jobs in this state; repeatable: {', '.join((*LIVE, *FINAL))}",
    completes=(*LIVE, *FINAL),
)
LABEL = Option(
    "--label", metavar="K=V", parse=values.pair, about="only jobs with this label; repeatable"
)
NAME = Option("--name", metavar="NAME", parse=values.text, about="only jobs with this name")
SINCE = Option(
    "--since", metavar="TIME", parse=values.duration, about="only jobs created since: 90s, 2h, 7d"
)
LIMIT = Option(
    "-n", metavar="N", parse=values.count, about=f"at most N jobs ({_DEFAULT_LIMIT}); 0 is all"
)
QUIET = Flag("-q", "--quiet", about="the ids alone, one a line")


def run(args: Args) -> int:
    """Print the jobs, newest first."""
    from worker_cli import show, words

    limit = args.get(LIMIT)
    with common.connect(args) as client:
        since = args.get(SINCE)
        jobs = client.list(
            status=args.all(STATUS),
            labels=dict(args.all(LABEL)),
            name=args.get(NAME),
            since=None if since is None else words.ago(since),
            limit=_DEFAULT_LIMIT if limit is None else limit or None,
        )
        form = args.get(common.FORMAT)
        if args.has(QUIET):
            for job in jobs:
                terminal.say(job.id)
        elif form == "jsonl":
            for job in jobs:
                terminal.say(show.as_lines([job.raw]))
        elif form == "json":
            terminal.say(show.as_json([job.raw for job in jobs]))
        elif records := list(jobs):
            terminal.say(show.table(records, words.now(), terminal.width(sys.stdout)))
            _note_more(len(records), limit)
        else:
            _note_none(args)
    return 0


def _note_more(shown: int, limit: int | None) -> None:
    if limit is None and shown == _DEFAULT_LIMIT and terminal.person(sys.stderr):
        terminal.note(f"the newest {shown} jobs; there may be more: worker list -n 0")


def _note_none(args: Args) -> None:
    """Say to a person that there is nothing; a program sees that there is nothing."""
    if not terminal.person(sys.stderr):
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
        "terminal; programs read -o json, -o jsonl or -q."
    ),
    options=(STATUS, LABEL, NAME, SINCE, LIMIT, QUIET, common.FORMAT),
    examples=(
        ("worker list --status running --status queued", "what has not ended"),
        ("worker list --label project=site -n 0", "every job with that label"),
        ("worker kill $(worker list -q --name nightly --status running)", "stop jobs by name"),
    ),
)
