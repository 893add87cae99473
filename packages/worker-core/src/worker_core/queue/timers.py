"""The times at which jobs may start, earliest first."""

from __future__ import annotations

import heapq


class Timers:
    """Times of jobs. To change a time costs as little as to add one."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # times that were changed since stay until due

    def set(self, job_id: str, at: float) -> None:
        """Set the time of a job, instead of an earlier one."""
        if self._times.get(job_id) != at:
            self._times[job_id] = at
            heapq.heappush(self._heap, (at, job_id))
            if len(self._heap) > 2 * len(self._times) + 100:
                self._heap = [(at, each) for each, at in self._times.items()]
                heapq.heapify(self._heap)

    def clear(self, job_id: str) -> None:
        """Forget the time of a job, if it has one."""
        self._times.pop(job_id, None)

    def due(self, now: float) -> list[str]:
        """Forget the times that have come, and return their jobs, the earliest first."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, job_id = heapq.heappop(self._heap)
            if self._times.get(job_id) == at:
                del self._times[job_id]
                found.append(job_id)
        return found

    def next(self) -> float | None:
        """Return the earliest time, None if there is none."""
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
