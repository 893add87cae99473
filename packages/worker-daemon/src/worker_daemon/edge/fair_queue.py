"""A queue that serves networks in turn, so that no network alone can keep the others waiting."""

from __future__ import annotations

import collections
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue in which the networks take turns. Not thread-safe.

    Within a network, the oldest and the newest item are taken alternately. While a client floods
    the queue, another client of the same network would wait for the whole queue if only the oldest
    were taken, and might wait forever if only the newest were.

    No method takes longer when there are more items.
    """

    def __init__(self) -> None:
        self._items: collections.OrderedDict[Hashable, collections.deque[T]] = (
            collections.OrderedDict()
        )
        self._newest_next: set[Hashable] = set()  # networks whose newest item is taken next

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, network: Hashable, item: T) -> None:
        """Add an item of a network."""
        self._items.setdefault(network, collections.deque()).append(item)

    def take(self) -> T:
        """Remove and return the next item; raise KeyError if there is none."""
        network, items = self._items.popitem(last=False)
        newest = network in self._newest_next
        item = items.pop() if newest else items.popleft()
        if not items:
            self._newest_next.discard(network)
            return item
        self._items[network] = items
        (self._newest_next.discard if newest else self._newest_next.add)(network)
        return item
