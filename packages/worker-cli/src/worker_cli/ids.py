"""From what a person types to the id of a job: whole, by its beginning, or @last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from worker_cli import errors
from worker_cli.ui import humanize

if TYPE_CHECKING:
    from worker_cli.client import Client

LAST = "@last"
_WHOLE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BEGINNING = re.compile(r"[0-9a-f-]{1,36}")
_SHOWN = 10


def resolve(client: Client, text: str) -> str:
    """Return the whole id of a job; a whole one is not asked about.

    Raises AmbiguousId, and ClientError when no job of the user is meant.
    """
    wanted = text.lower()
    if _WHOLE.fullmatch(wanted):
        return wanted
    if wanted == LAST:
        return _last(client)
    if not _BEGINNING.fullmatch(wanted):
        raise errors.ClientError(
            f"{humanize.clean(text)!r} is no job id; `worker list` shows yours, "
            f"the first characters of one are enough, and {LAST} is the newest"
        )
    found = list(client.list(id_prefix=wanted, limit=_SHOWN))
    if not found:
        raise errors.ClientError(f"no job of yours begins with {wanted}; `worker list` shows them")
    if len(found) > 1:
        rows = [
            f"  {each.id}  {each.status}  {humanize.command_line(each.argv, 60)}" for each in found
        ]
        more = ["  and perhaps more"] if len(found) == _SHOWN else []
        lines = "\n".join([*rows, *more])
        raise errors.AmbiguousId(
            f"{wanted} is the beginning of several jobs; type more of it:\n{lines}",
            [each.id for each in found],
        )
    return found[0].id


def _last(client: Client) -> str:
    for each in client.list(limit=1):
        return each.id
    raise errors.ClientError(f"there is no {LAST}: you have no jobs yet")
