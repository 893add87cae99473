"""The lines in which the jobs of one owner wait for something scarce.

Jobs with the same array, lock and pools are in one line. If the first job of a line cannot start,
no other job of the line can. So the time to find the next job grows with the number of lines, and
not with the number of jobs.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator

from worker_core.queue.waiting import Key, Waiting

_CHUNK = 500  # keys of a sorted list that are moved at once

PoolSet = tuple[str, ...]
LineId = tuple[str | None, str | None, PoolSet]  # array, lock, pools


class Sorted:
    """Keys in ascending order; adding and removing one moves a few hundred others at most."""

    def __init__(self) -> None:
        self._chunks: list[list[Key]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return self._size > 0

    def first(self) -> Key:
        """Return the lowest key; there must be one."""
        return self._chunks[0][0]

    def add(self, key: Key) -> None:
        """Add a key; it must be new."""
        self._size += 1
        if not self._chunks:
            self._chunks.append([key])
            return
        at = min(self._chunk(key), len(self._chunks) - 1)
        chunk = self._chunks[at]
        insort(chunk, key)
        if len(chunk) > 2 * _CHUNK:
            self._chunks[at : at + 1] = [chunk[:_CHUNK], chunk[_CHUNK:]]

    def remove(self, key: Key) -> None:
        """Remove a key; it must be present."""
        self._size -= 1
        at = self._chunk(key)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, key)]
        if not chunk:
            del self._chunks[at]

    def before(self, key: Key) -> int:
        """Return how many keys are lower."""
        at = self._chunk(key)
        within = bisect_left(self._chunks[at], key) if at < len(self._chunks) else 0
        return sum(map(len, self._chunks[:at])) + within

    def _chunk(self, key: Key) -> int:
        return bisect_left(self._chunks, key, key=lambda chunk: chunk[-1])


class Line:
    """Jobs of one owner that need the same things, in their owner's order."""

    def __init__(self, line_id: LineId) -> None:
        self.id = line_id
        self.array, self.lock, self.pools = line_id
        self.keys = Sorted()
        self.jobs: dict[Key, Waiting] = {}
        self.parked = False
        """Whether it is left out of the search until its lock or its array is free."""

    def size(self) -> int:
        """Return how many jobs wait in it; each element of an array is one."""
        return sum(job.size for job in self.jobs.values())

    def first(self) -> Waiting:
        """Return the first job; there must be one."""
        return self.jobs[self.keys.first()]


class OwnerLines:
    """All lines of one owner, by the pools that they take units from."""

    def __init__(self) -> None:
        self._lines: dict[LineId, Line] = {}
        # For each set of pools: a heap of its lines, ordered by their first jobs. An entry that is
        # no longer true is dropped when it comes to the top.
        self._heaps: dict[PoolSet, list[tuple[Key, LineId]]] = {}
        self._all = Sorted()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())

    def add(self, job: Waiting) -> None:
        """Put a job in its line."""
        line_id = _line_id(job)
        line = self._lines.get(line_id)
        if line is None:
            line = self._lines[line_id] = Line(line_id)
        key = job.key
        line.keys.add(key)
        line.jobs[key] = job
        self._all.add(key)
        if line.keys.first() == key:
            self._show(line)

    def remove(self, job: Waiting) -> Line:
        """Take a job out of its line, and return the line. An empty line is deleted."""
        line, key = self._lines[_line_id(job)], job.key
        was_first = line.keys.first() == key
        line.keys.remove(key)
        del line.jobs[key]
        self._all.remove(key)
        if not line.keys:
            del self._lines[line.id]
        elif was_first:
            self._show(line)
        return line

    def ahead(self, job: Waiting) -> int:
        """Return how many jobs come before a job."""
        return self._all.before(job.key)

    def park(self, line: Line) -> None:
        """Leave a line out until it is unparked."""
        line.parked = True

    def unpark(self, line: Line) -> None:
        """Look at a line again."""
        if line.parked:
            line.parked = False
            if self._lines.get(line.id) is line:
                self._show(line)

    def heads(self) -> list[Line]:
        """Return the lines whose first job might start, in order; at most one per set of pools."""
        found = []
        for pools in list(self._heaps):
            line = self._top(pools)
            if line is not None:
                found.append(line)
        return found if len(found) < 2 else sorted(found, key=lambda line: line.keys.first())

    def _top(self, pools: PoolSet) -> Line | None:
        heap = self._heaps[pools]
        while heap:
            key, line_id = heap[0]
            line = self._lines.get(line_id)
            if line is not None and not line.parked and line.keys.first() == key:
                return line
            heapq.heappop(heap)
        del self._heaps[pools]
        return None

    def _show(self, line: Line) -> None:
        if not line.parked:
            heapq.heappush(self._heaps.setdefault(line.pools, []), (line.keys.first(), line.id))


def _line_id(job: Waiting) -> LineId:
    array = job.array if job.elements is None else job.id
    return array, job.lock, tuple(sorted(job.needs))
