"""A queue that serves networks in turn, so that no network alone can keep the others waiting."""

from __future__ import annotations

import collections
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """A queue in which the networks take turns. Not thread-safe.

    Within a network, the oldest and the newest item are taken alternately. While a client floods
    the queue, another client of the same network would wait for the whole queue if only the oldest
    were taken, and might wait forever if only the newest were.

    No method takes longer when there are more items. An item can be in the queue only once.
    """

    def __init__(self) -> None:
        self._items: collections.OrderedDict[Hashable, collections.OrderedDict[T, None]] = (
            collections.OrderedDict()
        )
        self._newest_next: set[Hashable] = set()  # networks whose newest item is taken next

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, network: Hashable, item: T) -> None:
        """Add an item of a network."""
        self._items.setdefault(network, collections.OrderedDict())[item] = None

    def discard(self, network: Hashable, item: T) -> None:
        """Remove an item, if it is there."""
        items = self._items.get(network)
        if items is not None:
            items.pop(item, None)
            self._forget_if_empty(network)

    def take(self) -> T:
        """Remove and return the next item; raise KeyError if there is none."""
        if not self._items:
            raise KeyError("the queue is empty")
        network = next(iter(self._items))
        newest = network in self._newest_next
        item, _ = self._items[network].popitem(last=newest)
        (self._newest_next.discard if newest else self._newest_next.add)(network)
        self._items.move_to_end(network)
        self._forget_if_empty(network)
        return item

    def _forget_if_empty(self, network: Hashable) -> None:
        if not self._items[network]:
            del self._items[network]
            self._newest_next.discard(network)
