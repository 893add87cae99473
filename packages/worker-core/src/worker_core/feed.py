"""The changes of one owner's jobs, read from the store once for everybody who listens to them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from worker_core.model.job import Job

_KEPT = 500  # changes in memory; whoever is further behind reads the store
_LOT = 100  # changes read at a time
_SECONDS = 5.0  # after which a feed reads the store although nobody told it of a change

Read = Callable[[str, int, int], Sequence[Job]]
"""Of an owner, after a version, at most so many: the jobs in the order of their last change."""


class Feed:
    """The latest changes of an owner's jobs: all that came after version `_floor`."""

    def __init__(self, owner: str, version: int, read: Read, changes: Callable[[str], int]) -> None:
        self.users = 0
        self._owner = owner
        self._read = read
        self._changes = changes
        self._lock = threading.Lock()  # held while one listener reads; the others wait for that
        self._floor = self._latest = version
        self._kept: deque[Job] = deque()
        self._seen = -1  # changes that the listeners were told of before the last reading
        self._read_at = 0.0

    def after(self, version: int) -> Sequence[Job]:
        """Return what has changed after a version, at least what was committed before this call.

        Of more than `_LOT` changes that are not in memory, only the first ones.
        """
        with self._lock:
            if version >= self._floor:
                self._catch_up()
            if version >= self._floor:
                return self._newer(version)
        return self._read(self._owner, version, _LOT)

    def _newer(self, version: int) -> list[Job]:
        found = []
        for job in reversed(self._kept):
            if job.version <= version:
                break
            found.append(job)
        return found[::-1]

    def _catch_up(self) -> None:
        now, told = time.monotonic(), self._changes(self._owner)
        if told == self._seen and now - self._read_at < _SECONDS:
            return
        more = True
        for _ in range(_KEPT // _LOT):
            jobs = self._read(self._owner, self._latest, _LOT)
            self._kept.extend(jobs)
            self._latest = jobs[-1].version if jobs else self._latest
            more = len(jobs) == _LOT
            if not more:
                break
        while len(self._kept) > _KEPT:
            self._floor = self._kept.popleft().version
        if not more:  # else the next one goes on
            self._seen, self._read_at = told, now


class Feeds:
    """The feeds of the owners to whom somebody listens."""

    def __init__(self, read: Read, changes: Callable[[str], int]) -> None:
        """`changes` returns how many changes the listeners of an owner were told of."""
        self._read = read
        self._changes = changes
        self._lock = threading.Lock()
        self._feeds: dict[str, Feed] = {}

    @contextmanager
    def of(self, owner: str, version: int) -> Iterator[Feed]:
        """Lend the feed of an owner; a new one begins after `version`.

        Only for a caller that listens to the owner already, and for longer than this block.
        """
        with self._lock:
            feed = self._feeds.get(owner)
            if feed is None:
                feed = self._feeds[owner] = Feed(owner, version, self._read, self._changes)
            feed.users += 1
        try:
            yield feed
        finally:
            with self._lock:
                feed.users -= 1
                if not feed.users:
                    del self._feeds[owner]
