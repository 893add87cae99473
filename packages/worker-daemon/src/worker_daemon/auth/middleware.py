"""Who is there: HTTP Basic on everything but the check of liveness, before anything is said."""

from __future__ import annotations

import base64
import math
from typing import Protocol

import falcon

from worker_daemon import problems
from worker_daemon.api import long_requests
from worker_daemon.auth import verifier

PUBLIC = frozenset({"/healthz"})


class Verifier(Protocol):
    """What this needs of `users.Users`."""

    def verify(self, user: str, password: bytes, address: str) -> verifier.Verdict:
        """Say whether the password is the user's."""


class Authentication:
    """Refuses strangers, also where there is nothing; afterwards `req.context.user` is known.

    `req.context.stands` says later on whether the login still counts.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Verify the caller, before the route is looked up."""
        if req.path in PUBLIC:
            return
        header = req.get_header("Authorization")
        req.context.user, verdict = self.login(header, req.remote_addr)
        req.context.stands, req.context.owner_of = verdict.stands, verdict.owner_of
        # The server goes on asking while the answer is on its way to a slow client.
        if logged_in := req.env.get(long_requests.LOGGED_IN):
            logged_in(verdict.stands)

    def login(self, header: str | None, address: str) -> tuple[str, verifier.Verdict]:
        """Return who is there, by an Authorization header; raises Problem for whom is refused."""
        if header is None:
            raise problems.unauthorized("give a user name and a password (HTTP Basic)")
        credentials = read_basic(header)
        if credentials is None:
            raise problems.unauthorized(
                "the Authorization header is malformed: after Basic, the base64 of NAME:PASSWORD in"
                " UTF-8 is needed"
            )
        user, password = credentials
        verdict = self._verifier.verify(user, password, address)
        if not verdict.usable:
            raise problems.Problem(
                "users_unavailable",
                "nobody can log in, because the server's users file cannot be used; its log says "
                "why; try again later",
            )
        if verdict.retry_after is not None:
            raise problems.Problem(
                "too_many_logins",
                "too many logins have failed or are under way; try again in "
                f"{math.ceil(verdict.retry_after)} s",
                retry_after=verdict.retry_after,
            )
        if not verdict.accepted:
            raise problems.unauthorized("the user name or the password is wrong")
        return user, verdict


def read_basic(header: str) -> tuple[str, bytes] | None:
    """Return the name and password of an Authorization header (RFC 7617), None if it has none."""
    scheme, _, encoded = header.partition(" ")
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
        user, colon, password = pair.partition(b":")
        name = user.decode()
    except ValueError:
        return None
    return (name, password) if scheme.lower() == "basic" and colon else None
