"""Resolve the id of a job that a user typed: in full, its first characters, or @last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from worker_cli import errors
from worker_cli.ui import humanize

if TYPE_CHECKING:
    from worker_cli.client import Client

LAST = "@last"
_FULL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PREFIX = re.compile(r"[0-9a-f-]{1,36}")
_MAX_SHOWN = 10


def resolve(client: Client, text: str) -> str:
    """Return the full id of a job; a full id is returned without a request.

    Raises AmbiguousId, and ClientError when the user has no such job.
    """
    prefix = text.lower()
    if _FULL.fullmatch(prefix):
        return prefix
    if prefix == LAST:
        return _last(client)
    if not _PREFIX.fullmatch(prefix):
        raise errors.ClientError(
            f"invalid job id {humanize.clean(text)!r}; see `worker list` for the ids of your jobs: "
            f"the first characters of one are enough, and {LAST} is the newest job"
        )
    jobs = list(client.list(id_prefix=prefix, limit=_MAX_SHOWN))
    if not jobs:
        raise errors.ClientError(
            f"you have no job whose id begins with {prefix}; see `worker list`"
        )
    if len(jobs) > 1:
        rows = [f"  {job.id}  {job.status}  {humanize.command_line(job.argv, 60)}" for job in jobs]
        more = ["  and perhaps more"] if len(jobs) == _MAX_SHOWN else []
        lines = "\n".join([*rows, *more])
        raise errors.AmbiguousId(
            f"the ids of several jobs begin with {prefix}; type more characters:\n{lines}",
            [job.id for job in jobs],
        )
    return jobs[0].id


def _last(client: Client) -> str:
    for job in client.list(limit=1):
        return job.id
    raise errors.ClientError(f"there is no {LAST}: you have no jobs yet")
