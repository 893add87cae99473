"""The check of logins: HTTP Basic, for everything but the liveness check."""

from __future__ import annotations

import base64
import math
from typing import Protocol

import falcon

from worker_daemon import problems
from worker_daemon.auth import login_hook, verifier

PUBLIC = frozenset({"/healthz"})


class PasswordVerifier(Protocol):
    """What this module needs of `verifier.Verifier`."""

    def verify(self, user: str, password: bytes, address: str) -> verifier.Verdict:
        """Return whether the password is that of the user."""


class Authentication:
    """Refuse requests without a valid login, also for paths that do not exist.

    Afterwards `req.context.user` is the user's name, and `req.context.stands` is a function that
    returns whether the login is still valid.
    """

    def __init__(self, verifier: PasswordVerifier) -> None:
        self._verifier = verifier

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Verify the login, before falcon looks for the route."""
        if req.path in PUBLIC:
            return
        header = req.get_header("Authorization")
        req.context.user, verdict = self.login(header, req.remote_addr)
        req.context.stands, req.context.owner_of = verdict.stands, verdict.owner_of
        # The server goes on asking while it sends the response to a slow client.
        if logged_in := req.env.get(login_hook.LOGGED_IN):
            logged_in(req.context.user, verdict.stands)

    def login(self, header: str | None, address: str) -> tuple[str, verifier.Verdict]:
        """Return the user's name and the verdict on an Authorization header.

        Raises Problem when the login is refused.
        """
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
                "nobody can log in, because the server cannot use its users file; the server's log "
                "has the reason; try again later",
            )
        if verdict.retry_after is not None:
            raise problems.Problem(
                "too_many_logins",
                "too many logins have failed or are being verified; try again in "
                f"{math.ceil(verdict.retry_after)} s",
                retry_after=verdict.retry_after,
            )
        if not verdict.accepted:
            raise problems.unauthorized("the user name or the password is wrong")
        return user, verdict


def read_basic(header: str) -> tuple[str, bytes] | None:
    """Return name and password of an Authorization header (RFC 7617), None if it is malformed."""
    scheme, _, encoded = header.partition(" ")
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
        user, colon, password = pair.partition(b":")
        name = user.decode()
    except ValueError:
        return None
    return (name, password) if scheme.lower() == "basic" and colon else None
