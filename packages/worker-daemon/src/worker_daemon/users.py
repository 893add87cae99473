"""Who may use the daemon: passwords are verified against an htpasswd file of bcrypt hashes."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer to a login.

    When `retry_after` is set, nothing was verified: too many logins failed or are being verified,
    and the client should ask again after so many seconds.
    """

    accepted: bool
    retry_after: float | None = None


class Users:
    """The users of a file; every method may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def verify(self, user: str, password: bytes, address: str) -> Verdict:
        """Say whether `password` is that of `user`, who asks from the IP address `address`."""
        raise NotImplementedError
