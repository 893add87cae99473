"""Who asks, and what they may touch: every decision about other people's jobs is made here."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Callable, Collection
from typing import Annotated

import falcon
import worker_core

from worker_daemon import problems
from worker_daemon.api import params

EVERYBODY = "*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnerQuery:
    """What every request about jobs may say."""

    owner: Annotated[
        str | None,
        params.Field(
            params.Text(),
            "Whose jobs are meant: by default one's own. Only an administrator may name somebody"
            f" else, or everybody ({EVERYBODY}).",
        ),
    ] = None


class Access:
    """Decides whose jobs a request may touch."""

    def __init__(self, engine: worker_core.Engine, admins: Collection[str]) -> None:
        self._engine = engine
        self._admins = admins

    def job(self, req: falcon.Request, job_id: str) -> worker_core.Job:
        """Return the job that the request names, if the caller may touch it.

        A long spec of it is an outline, as most requests need no more.

        Raises the same for an id that is unknown or malformed, and for somebody else's job.
        """
        owner = self.owner(req)
        try:
            job = self._engine.get(job_id, whole=False)
        except worker_core.JobNotFound:
            raise problems.job_not_found(job_id) from None
        if owner not in (job.owner, EVERYBODY):
            raise problems.job_not_found(job_id)
        return job

    def owner(self, req: falcon.Request) -> str:
        """Return whose jobs the request is about: an owner, or EVERYBODY."""
        user: str = req.context.user
        owner_of: Callable[[str], str] = req.context.owner_of
        asked = dict(query(req)).get("owner", user)
        if asked == user and user != EVERYBODY:
            return owner_of(user)
        if not self.is_admin(user):
            message = "only an administrator may ask for the jobs of somebody else"
            raise problems.invalid([worker_core.FieldError("owner", message)])
        return owner_of(asked)

    def is_admin(self, user: str) -> bool:
        """Say whether a user may see and end the jobs of others."""
        return user in self._admins


def query(req: falcon.Request) -> list[tuple[str, str]]:
    """Return the parameters of the query in order, with those that come more than once.

    A value may hold any byte, as names and labels of jobs may: one that is not UTF-8 is a surrogate
    here (surrogateescape), which `fields.from_query` refuses in every field that takes no bytes.
    """
    try:
        pairs = urllib.parse.parse_qsl(
            req.query_string, keep_blank_values=True, errors="surrogateescape", max_num_fields=200
        )
        "".join(name for name, _ in pairs).encode()
    except ValueError:
        raise problems.broken_query() from None
    return pairs
