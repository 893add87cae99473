"""The options that say when a job starts, and the fields they become."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from worker_cli import errors, options, parsing
from worker_cli.options import AnyOption, Args, Flag, Option
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.client import Client

_MOST = 100  # of a priority, in either direction


def _priority(value: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,3}", value, re.ASCII) or abs(int(value)) > _MOST:
        raise ValueError(f"must be a whole number from -{_MOST} to {_MOST}")
    return int(value)


def _time(value: str) -> datetime:
    """Return the time that a person means, in the local time zone where none is given."""
    from worker_cli.ui import humanize

    now = humanize.now().astimezone()
    if value == "now":
        return now
    if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", value, re.ASCII):
        return _next(value, now)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        example = "22:00, 2026-12-01T08:00, 2026-12-01T08:00+01:00 or now"
        raise ValueError(f"must be a time, such as {example}") from None
    try:
        at = (found if found.tzinfo else _local(found)).astimezone(UTC)
        at.astimezone()  # it is shown in local time, too
        return at
    except (OverflowError, ValueError):  # a zone takes it out of the years 1 to 9999
        raise ValueError("must be a time from the year 1970 to the year 9999") from None


def _local(wanted: datetime) -> datetime:
    """Return the first moment at which the local clock shows a time, or has passed over it.

    Where daylight saving begins, clocks skip an hour: 02:30 is then half an hour after the change.
    """
    readings = [wanted.replace(fold=fold).astimezone() for fold in (0, 1)]
    shown = [each for each in readings if datetime.fromtimestamp(each.timestamp()) == wanted]  # noqa: DTZ006  # the local clock is meant
    return min(shown) if shown else max(readings)


def _next(text: str, now: datetime) -> datetime:
    """Return when the clock next shows this time of day."""
    hour, minute, second = (int(each) for each in f"{text}:00".split(":")[:3])
    try:
        wanted = now.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None)
    except ValueError as error:
        raise ValueError(f"must be a time of day: {error}") from None
    if wanted <= now.replace(tzinfo=None):
        wanted += timedelta(days=1)
    return _local(wanted)


PRIORITY = Option(
    "--priority",
    metavar="N",
    parse=_priority,
    about="of your waiting jobs the one with the highest is first: -100 to 100",
)
HOLD = Flag("--hold", about="do not start it until you release it")
AT = Option(
    "--at",
    metavar="TIME",
    parse=_time,
    about="do not start it before: 22:00, 2026-12-01T08:00; local time",
)
DELAY = Option(
    "--delay",
    metavar="TIME",
    parse=parsing.duration,
    about="do not start it before so much time has passed: 90, 10m, 3h",
)
LOCK = Option(
    "--lock",
    metavar="NAME",
    parse=parsing.text,
    about="of your jobs with this lock, run one at a time",
)

_SLURM = {"afterok": "success", "afterany": "end", "afternotok": "failure", "after": "start"}


def _dependency(value: str) -> list[tuple[str, str]]:
    """Return the ids and conditions of Slurm's syntax, as in afterok:ID:ID,afterany:ID."""
    found = []
    for part in value.split(","):
        kind, *ids = part.split(":")
        if kind not in _SLURM or not ids or not all(ids):
            raise ValueError(f"must be KIND:ID[:ID…][,…] with a KIND of {', '.join(_SLURM)}")
        found += [(each, _SLURM[kind]) for each in ids]
    return found


def _after(name: str, about: str) -> Option[str]:
    about = f"start it when the job ID {about}; repeatable"
    return Option(name, metavar="ID", parse=parsing.text, about=about, completes=options.JOB)


AFTER = _after("--after", "has completed")
AFTER_ANY = _after("--after-any", "has ended, however it did")
AFTER_FAIL = _after("--after-fail", "was started and did not complete")
DEPENDENCY = Option(
    "--dependency",
    metavar="SPEC",
    parse=_dependency,
    about="the same as Slurm writes it: afterok:ID:ID,afterany:ID,afternotok:ID,after:ID",
)
_AFTER = {AFTER: "success", AFTER_ANY: "end", AFTER_FAIL: "failure"}

OPTIONS: tuple[AnyOption, ...] = (PRIORITY, HOLD, AT, DELAY, LOCK, *_AFTER, DEPENDENCY)
FIELDS: Mapping[str, tuple[AnyOption, ...]] = {
    "priority": (PRIORITY,),
    "hold": (HOLD,),
    "start_after": (AT, DELAY),
    "lock": (LOCK,),
    "after": (*_AFTER, DEPENDENCY),
}
"""The options that a field of the job object comes from."""


def check(args: Args) -> None:
    """Raise UsageError for what contradicts itself."""
    if args.has(AT) and args.has(DELAY):
        raise errors.UsageError("--at and --delay cannot be combined")
    if len(args.all(LOCK)) > 1:
        raise errors.UsageError("--lock can be given once, because a job has one lock at most")


def fields(args: Args, client: Client) -> dict[str, Any]:
    """Return the arguments of `Client.run` and `Client.update` that were given."""
    start_after, delay = args.get(AT), args.get(DELAY)
    if delay is not None:
        start_after = client.server_time() + timedelta(seconds=delay)
    given = {"priority": args.get(PRIORITY), "start_after": start_after}
    found: dict[str, Any] = {name: each for name, each in given.items() if each is not None}
    return found | ({"hold": True} if args.has(HOLD) else {})


def after(args: Args, client: Client) -> list[dict[str, str]] | None:
    """Return the job object's `after` with full ids, None if it waits for no other job."""
    from worker_cli import ids

    named = [(text, when) for option, when in _AFTER.items() for text in args.all(option)]
    named += [pair for pairs in args.all(DEPENDENCY) for pair in pairs]
    found = {text: ids.resolve(client, text) for text, _ in named}
    return [{"job": found[text], "when": when} for text, when in named] or None


def note_time(given: Mapping[str, Any]) -> None:
    """Print the time before which a job does not start, in local time and in UTC."""
    from worker_cli.ui import humanize

    at = given.get("start_after")
    if at is None or abs(humanize.now() - at) < timedelta(seconds=2):  # --at now
        return
    local, utc = at.astimezone(), at.astimezone(UTC)
    text = f"{local:%Y-%m-%d %H:%M:%S %Z}"
    if local.utcoffset():
        text += f" ({utc:%Y-%m-%d %H:%M:%S} UTC)"
    if at < humanize.now():
        terminal.note(f"{text} is past, so it does not delay the job")
    else:
        terminal.note(f"starts at {text} or later")
