"""Chooses the owner who has the next turn.

It is the owner with the fewest running jobs in proportion to their share. Among equals, it is the
owner who has had the fewest turns lately, again in proportion to their share. This second rule is
start-time fair queueing (Goyal, Vin, Cheng 1996): each turn moves an owner's tag forward by
1 / share, and the lowest tag is next. An owner who was away begins at the tag of the latest turn,
so that an owner cannot save up turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Turns:
    """The owners with waiting jobs, and the turns that they have had."""

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        """An owner without a share has one of 1."""
        self._shares = dict(shares or {})
        self._tags: dict[str, float] = {}
        self._places: dict[str, int] = {}  # of owners who wait; the lowest has waited longest
        self._now = 0.0
        self._count = 0

    def share(self, owner: str) -> float:
        """Return the share of an owner."""
        return self._shares.get(owner, 1.0)

    def join(self, owner: str) -> None:
        """Note that an owner has jobs that wait for a turn."""
        if owner not in self._places:
            self._tags[owner] = max(self._tags.get(owner, 0.0), self._now)
            self._places[owner] = self._next_place()

    def leave(self, owner: str) -> None:
        """Note that no job of an owner waits for a turn."""
        self._places.pop(owner, None)

    def take(self, owner: str) -> None:
        """Note that an owner has had a turn; the owner must have joined."""
        self._now = max(self._now, self._tags[owner])
        self._tags[owner] += 1.0 / self.share(owner)
        self._places[owner] = self._next_place()

    def next(self, owners: Iterable[str], running: Mapping[str, int]) -> str | None:
        """Return which of `owners` has the next turn; None if it is empty. All must have joined."""
        return min(owners, key=lambda owner: self._rank(owner, running), default=None)

    def _rank(self, owner: str, running: Mapping[str, int]) -> tuple[float, float, int]:
        return running[owner] / self.share(owner), self._tags[owner], self._places[owner]

    def _next_place(self) -> int:
        self._count += 1
        return self._count
