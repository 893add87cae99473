"""Limits how many launchers the hanging starts of one owner take; further starts are held back.

Each start that hangs takes a launcher, and the number of launchers is limited. If the starts of one
owner took all of them, the jobs of other owners would not start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from worker_core.supervisor.running_job import RunningJob

MOST = 8  # launchers that the starts of one owner take while they hang


class HeldBack:
    """The jobs whose starts are held back, by owner and in their order."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, RunningJob]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def has(self, owner: str) -> bool:
        """Return whether a start of an owner is held back; further ones then wait behind it."""
        return owner in self._of

    def put(self, job: RunningJob) -> None:
        """Hold a start back."""
        self._of.setdefault(job.owner, {})[job.id] = job

    def take(self, job: RunningJob) -> bool:
        """Take a start out; return False if it is not held back."""
        mine = self._of.get(job.owner, {})
        found = mine.pop(job.id, None)
        if found is not None and not mine:
            del self._of[job.owner]
        return found is not None

    def take_all(self) -> list[RunningJob]:
        """Take out all starts, and return their jobs."""
        found = [each for mine in self._of.values() for each in mine.values()]
        self._of.clear()
        return found

    def take_next(self, under_way: Iterable[RunningJob]) -> list[RunningJob]:
        """Take out the starts that may be given now, in addition to those that are under way."""
        if not self._of:
            return []
        counts = Counter(job.owner for job in under_way)
        next_jobs: list[RunningJob] = []
        for name, mine in self._of.items():
            next_jobs += list(mine.values())[: max(MOST - counts[name], 0)]
        for each in next_jobs:
            self.take(each)
        return next_jobs


def crowds(held: Iterable[RunningJob]) -> set[str]:
    """Return the owners whose starts take as many launchers as one owner may have."""
    return {name for name, count in Counter(job.owner for job in held).items() if count >= MOST}
