"""Access control: who may see and change whose jobs. All of it is decided here."""

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
    """The parameter `owner` of every request about jobs."""

    owner: Annotated[
        str | None,
        params.Field(
            params.Text(),
            "The user whose jobs are meant; by default the caller. Only an administrator may name"
            f" another user, or all users ({EVERYBODY}).",
        ),
    ] = None


class Access:
    """Decides whose jobs a request may touch."""

    def __init__(self, engine: worker_core.Engine, admins: Collection[str]) -> None:
        self._engine = engine
        self._admins = admins

    def job(self, req: falcon.Request, job_id: str) -> worker_core.Job:
        """Return the job that the request names, if the caller may see it.

        A long spec is only an outline here; most requests need no more.

        Raises the same problem for an unknown id, a malformed one, and another user's job.
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
        """Return the owner whose jobs the request is about, or EVERYBODY."""
        user: str = req.context.user
        owner_of: Callable[[str], str] = req.context.owner_of
        wanted = dict(query(req)).get("owner", user)
        if wanted == user and user != EVERYBODY:
            return owner_of(user)
        if not self.is_admin(user):
            message = "only an administrator may name another user"
            raise problems.invalid([worker_core.FieldError("owner", message)])
        return owner_of(wanted)

    def is_admin(self, user: str) -> bool:
        """Return whether a user may see and kill the jobs of others."""
        return user in self._admins


def query(req: falcon.Request) -> list[tuple[str, str]]:
    """Return the parameters of the query in order; a name may occur several times.

    Names and labels of jobs may contain bytes that are not UTF-8, which are surrogates here
    (surrogateescape). `params.from_query` refuses them in all other fields.
    """
    try:
        pairs = urllib.parse.parse_qsl(
            req.query_string, keep_blank_values=True, errors="surrogateescape", max_num_fields=200
        )
        "".join(name for name, _ in pairs).encode()
    except ValueError:
        raise problems.broken_query() from None
    return pairs
