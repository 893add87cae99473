"""Whose turn it is: the owner with the fewest running jobs for their share, then the one who has
been without a turn for longest, again for their share.

The second rule is start-time fair queueing (Goyal, Vin, Cheng 1996): each turn moves an owner's tag
forward by 1 / share, and the lowest tag is next. An owner who comes anew begins at the tag of the
latest turn, so that nobody saves turns up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Turns:
    """The owners with jobs that wait, and their turns up to now."""

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        """An owner without a share has one of 1."""
        self._shares = dict(shares or {})
        self._tags: dict[str, float] = {}
        self._places: dict[str, int] = {}  # of who waits: lower has been without a turn for longer
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
        """Note that it was the turn of an owner, who has joined."""
        self._now = max(self._now, self._tags[owner])
        self._tags[owner] += 1.0 / self.share(owner)
        self._places[owner] = self._next_place()

    def next(self, owners: Iterable[str], running: Mapping[str, int]) -> str | None:
        """Return whose turn it is among owners who have joined; None if there are none."""
        return min(owners, key=lambda owner: self._rank(owner, running), default=None)

    def _rank(self, owner: str, running: Mapping[str, int]) -> tuple[float, float, int]:
        return running[owner] / self.share(owner), self._tags[owner], self._places[owner]

    def _next_place(self) -> int:
        self._count += 1
        return self._count
