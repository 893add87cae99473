"""Starts that no launcher is given yet, because enough others of their owner hang.

Each start that hangs takes a launcher, and there is a bounded number of them. One owner's may not
take all, or nobody else's job would start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from worker_core.supervisor.running_job import RunningJob

MOST = 8  # launchers that the starts of one owner take while they hang


class Aside:
    """Their jobs, for each owner in their order."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, RunningJob]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def has(self, owner: str) -> bool:
        """Whether a start of an owner is aside, so that the next one has to wait behind it."""
        return owner in self._of

    def put(self, process: RunningJob) -> None:
        """Put a start aside."""
        self._of.setdefault(owner(process), {})[process.id] = process

    def take(self, process: RunningJob) -> bool:
        """Take a start out; False if it is not aside."""
        mine = self._of.get(owner(process), {})
        found = mine.pop(process.id, None)
        if found is not None and not mine:
            del self._of[owner(process)]
        return found is not None

    def take_all(self) -> list[RunningJob]:
        """Take all of them out."""
        found = [each for mine in self._of.values() for each in mine.values()]
        self._of.clear()
        return found

    def take_next(self, under_way: Iterable[RunningJob]) -> list[RunningJob]:
        """Take out what may be given by now, beside the starts that are under way."""
        if not self._of:
            return []
        counts = Counter(map(owner, under_way))
        found: list[RunningJob] = []
        for name, mine in self._of.items():
            found += list(mine.values())[: max(MOST - counts[name], 0)]
        for each in found:
            self.take(each)
        return found


def owner(process: RunningJob) -> str:
    """Return whose a job is."""
    return process.owner


def crowds(held: Iterable[RunningJob]) -> set[str]:
    """Return the owners whose starts take as many launchers as one owner's may."""
    return {name for name, count in Counter(map(owner, held)).items() if count >= MOST}
