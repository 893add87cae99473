"""The latest changes of an owner's jobs, read from the store once for all event streams."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from worker_core.model.job import Job

_KEPT = 500  # changes in memory; a stream that is further behind reads the store
_LOT = 100  # changes per reading
_SECONDS = 5.0  # after which a feed reads the store even without a notification

Read = Callable[[str, int, int], Sequence[Job]]
"""Called with owner, version and limit; returns the owner's jobs that changed after the version, in
the order of their last change."""


class Feed:
    """The latest changes of an owner's jobs: all changes after version `_floor`."""

    def __init__(self, owner: str, version: int, read: Read, changes: Callable[[str], int]) -> None:
        self.users = 0
        self._owner = owner
        self._read = read
        self._changes = changes
        self._lock = threading.Lock()  # held while one stream reads the store for all
        self._floor = self._latest = version
        self._kept: deque[Job] = deque()
        self._seen = -1  # the number of notifications before the last reading
        self._read_at = 0.0

    def after(self, version: int) -> Sequence[Job]:
        """Return the changes after a version, at least those that were committed before this call.

        Of more than `_LOT` changes that are not in memory, only the first are returned.
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
        now, notified = time.monotonic(), self._changes(self._owner)
        if notified == self._seen and now - self._read_at < _SECONDS:
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
        if not more:  # otherwise the next call continues
            self._seen, self._read_at = notified, now


class Feeds:
    """The feeds of the owners that have at least one event stream."""

    def __init__(self, read: Read, changes: Callable[[str], int]) -> None:
        """`changes` returns how many changes the subscribers to an owner were notified of."""
        self._read = read
        self._changes = changes
        self._lock = threading.Lock()
        self._feeds: dict[str, Feed] = {}

    @contextmanager
    def of(self, owner: str, version: int) -> Iterator[Feed]:
        """Lend the feed of an owner; a new one begins after `version`.

        The caller must be subscribed to the owner's changes for the whole time of this block.
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
