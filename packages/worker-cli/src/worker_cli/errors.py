"""The exceptions of this distribution; `str(error)` is one sentence that says what to do.

There is a subclass only where a caller handles the error in a different way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Base class of every error that this distribution raises on purpose."""


class UsageError(ClientError):
    """The command line is wrong."""


class SettingsError(ClientError):
    """A setting, a configuration file or a credentials file cannot be used."""


class NotLoggedIn(ClientError):
    """There is no password to send, or the server did not accept it (401)."""


class Unreachable(ClientError):
    """There is no usable answer: nothing answers at the address, or it is not a workerd."""


class Untrusted(Unreachable):
    """The server could not prove that it is the intended one; nothing was sent to it."""


class ServerUnavailable(Unreachable):
    """No connection: nothing listens at the address, or the network does not lead to it.

    This may pass, for example while a server is restarted.
    """


class ConnectionLost(Unreachable):
    """The connection was lost before the answer was complete.

    It is not known what the server did with the request.
    """


class AmbiguousId(ClientError):
    """A prefix that several of the caller's jobs share; `candidates` are their full ids."""

    def __init__(self, message: str, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class RequestRefused(ClientError):
    """The server refused the request; the attributes are its problem document's (RFC 9457)."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        errors: Sequence[Mapping[str, Any]] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status."""
        self.code = code
        """A stable word for the reason, for example "queue_full"."""
        self.errors = tuple(errors)
        """For status 422: one mapping for each wrong field."""
        self.request_id = request_id
        """The id to search for in the server's log."""
        self.retry_after = retry_after
        """Seconds after which the server suggests to try again."""


class JobNotFound(RequestRefused):
    """This user has no job with that id."""


class JobNotRunning(RequestRefused):
    """The job has already ended; the message says how."""


class JobNotFinished(RequestRefused):
    """The job has not ended yet, so it cannot be removed."""
