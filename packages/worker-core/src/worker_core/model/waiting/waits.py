"""Waits: what the owner of a job lets it wait for."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Unchanged(enum.Enum):
    """The type of UNCHANGED."""

    UNCHANGED = enum.auto()


UNCHANGED = Unchanged.UNCHANGED
"""Means that a value is not changed, where None would be a new value."""


@dataclass(frozen=True)
class Waits:
    """The order and the conditions of a waiting job; its owner may change them until it starts."""

    priority: int = 0
    hold: bool = False
    """Whether it waits until it is released."""
    start_after: float | None = None
    """The Unix time before which it does not start."""

    def __post_init__(self) -> None:
        """Read what the database has for true and false."""
        object.__setattr__(self, "hold", bool(self.hold))
