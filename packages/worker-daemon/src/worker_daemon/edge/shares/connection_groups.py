"""Connections in groups, and which one to close when there is no place for a new one.

Connections without a login are grouped by network, and the others by user. When there is no place,
the group with the most connections loses its oldest one. So a client that opens many connections
closes its own, and not those of others.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class ConnectionGroups(Generic[T]):
    """Connections by group. Any thread may call any method.

    No method takes longer when there are more connections.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._group: dict[T, Hashable] = {}
        self._members: dict[Hashable, dict[T, None]] = {}  # the oldest comes first
        self._with_count: dict[int, dict[Hashable, None]] = {}  # groups with that many members
        self._largest = 0  # members of the largest group

    def __len__(self) -> int:
        return len(self._group)

    def add(self, connection: T, group: Hashable) -> None:
        """Add a connection to a group, or move it there."""
        with self._lock:
            if self._group.get(connection, _NONE) == group:
                return
            self._remove(connection)
            self._group[connection] = group
            self._members.setdefault(group, {})[connection] = None
            self._recount(group, 1)
            self._largest = max(self._largest, len(self._members[group]))

    def remove(self, connection: T) -> None:
        """Remove a connection, if it is there."""
        with self._lock:
            self._remove(connection)

    def oldest(self, more_than: int = 0) -> T | None:
        """Return the oldest connection of the largest group, if that has more than `more_than`."""
        with self._lock:
            if self._largest <= more_than:
                return None
            group = next(iter(self._with_count[self._largest]))
            return next(iter(self._members[group]))

    def excess(self, connection: T, limit: int) -> T | None:
        """Return the oldest connection of the same group, if that has more than `limit`."""
        with self._lock:
            members = self._members.get(self._group.get(connection, _NONE), {})
            return next(iter(members)) if len(members) > limit else None

    def _remove(self, connection: T) -> None:
        group = self._group.pop(connection, _NONE)
        if group is _NONE:
            return
        del self._members[group][connection]
        self._recount(group, -1)
        if not self._members[group]:
            del self._members[group]
        if self._largest and self._largest not in self._with_count:
            self._largest -= 1

    def _recount(self, group: Hashable, change: int) -> None:
        """Move a group to those with its present number of members."""
        count = len(self._members[group])
        before = self._with_count.get(count - change)
        if before is not None:
            before.pop(group, None)
            if not before:
                del self._with_count[count - change]
        if count:
            self._with_count.setdefault(count, {})[group] = None


_NONE = object()  # the group of a connection that is in none
