"""What can go wrong, as exceptions; `str(error)` is one sentence with what to do about it.

A subclass stands only where a caller acts differently on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Base of every error that this distribution raises on purpose."""


class UsageError(ClientError):
    """The command line was wrong; the command prints it after the help text."""


class SettingsError(ClientError):
    """A setting, a configuration file or a credentials file cannot be used."""


class NotLoggedIn(ClientError):
    """There is no password to send, or the server did not accept it (401)."""


class Unreachable(ClientError):
    """No answer that could be used: nobody answers there, or it is not a workerd."""


class Untrusted(Unreachable):
    """The server could not prove that it is the one that was meant; nothing was sent to it."""


class Absent(Unreachable):
    """Nobody answers at the address: nothing listens there, or nothing can be reached.

    That may change by itself, as when a server is being restarted.
    """


class Dropped(Unreachable):
    """The connection was lost before the answer was whole.

    What the server did with the request is not known.
    """


class AmbiguousId(ClientError):
    """A prefix that several of the caller's jobs share; `candidates` are their whole ids."""

    def __init__(self, message: str, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class Refused(ClientError):
    """The server's answer is no, with the problem document's fields (RFC 9457) as attributes."""

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
        """The stable word for the reason, for example "queue_full"."""
        self.errors = tuple(errors)
        """For 422: one mapping for each field that is wrong."""
        self.request_id = request_id
        """The id to look for in the server's log."""
        self.retry_after = retry_after
        """Seconds after which the server suggests to try again."""


class JobNotFound(Refused):
    """No job of this user has that id."""


class JobNotRunning(Refused):
    """The job has already ended; the message says how."""


class JobNotFinished(Refused):
    """The job has not ended yet, so it cannot be removed."""
