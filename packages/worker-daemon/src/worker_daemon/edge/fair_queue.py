"""A queue that serves networks in turn, so that no network alone can keep the others waiting."""

from __future__ import annotations

import collections
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items in line: each network in turn gives its first one. Not thread-safe.

    No method takes longer when there are more items.
    """

    def __init__(self) -> None:
        self._lines: collections.OrderedDict[Hashable, collections.deque[T]] = (
            collections.OrderedDict()
        )

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, network: Hashable, item: T) -> None:
        """Put an item at the end of the line of its network."""
        self._lines.setdefault(network, collections.deque()).append(item)

    def take(self) -> T:
        """Take the next item out; raise KeyError if there is none."""
        network, line = self._lines.popitem(last=False)
        item = line.popleft()
        if line:
            self._lines[network] = line
        return item
