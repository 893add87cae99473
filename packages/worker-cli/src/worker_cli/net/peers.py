"""The server that a client talks to, and the two errors that any answer of it can end in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker_cli import errors


@dataclass(frozen=True)
class Peer:
    """What error messages need to know about the other end of a connection."""

    server: str
    cacert: Path | None
    proxy: str | None
    """The proxy that requests go through, without its password; None for a direct connection."""
    cert: Path | None = None
    """The certificate that this client sends when the server asks for one."""

    def __str__(self) -> str:
        return f"{self.server} (through the proxy {self.proxy})" if self.proxy else self.server


def not_workerd(peer: Peer, what: str) -> errors.Unreachable:
    """Return the error for a peer that answers, but not as workerd does."""
    return errors.Unreachable(
        f"{peer} answered with {what}, which workerd never does; "
        "check the address, and whether there is a proxy in between"
    )


def connection_lost(peer: Peer) -> errors.ConnectionLost:
    """Return the error for a connection that was lost before the answer was complete."""
    return errors.ConnectionLost(
        f"the connection to {peer} was lost before the answer was complete"
    )
