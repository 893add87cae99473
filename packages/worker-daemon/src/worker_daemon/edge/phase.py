"""The phases of a connection."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """The phases of a connection, in their order. A connection may become CLOSED in any phase."""

    NEW = enum.auto()  # nothing has arrived yet
    HANDSHAKE = enum.auto()  # the TLS handshake has begun
    OPEN = enum.auto()  # requests and responses
    LINGERING = enum.auto()  # FIN is sent; input is discarded until the client closes, too
    CLOSED = enum.auto()  # broken or closed
