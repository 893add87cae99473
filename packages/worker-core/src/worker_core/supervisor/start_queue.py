"""Starts that no launcher has been given yet; their owners take turns.

Without turns, if one user submits hundreds of jobs at once, the next job of every other user would
wait until all of these have started.
"""

from __future__ import annotations

from collections import OrderedDict


class StartQueue:
    """The starts of each owner, as the messages that launchers get, in their order."""

    def __init__(self) -> None:
        # Ordered, because finding the first key of a plain dict takes a step for each deleted one.
        self._owners: OrderedDict[str, OrderedDict[str, bytes]] = OrderedDict()
        self._owner_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._owner_of)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._owner_of

    def ids(self) -> set[str]:
        """Return the jobs whose start is in the queue."""
        return set(self._owner_of)

    def add(self, owner: str, job_id: str, data: bytes) -> None:
        """Add a start behind the other starts of its owner."""
        self._owners.setdefault(owner, OrderedDict())[job_id] = data
        self._owner_of[job_id] = owner

    def put_back(self, owner: str, job_id: str, data: bytes) -> None:
        """Put a start before all others, because it was taken out too early."""
        self.add(owner, job_id, data)
        self._owners.move_to_end(owner, last=False)
        self._owners[owner].move_to_end(job_id, last=False)

    def take_next(self) -> tuple[str, str, bytes]:
        """Take out the next start: owner, job id and message. KeyError if there is none."""
        owner = next(iter(self._owners), "")
        job_id, data = self._owners[owner].popitem(last=False)
        del self._owner_of[job_id]
        if self._owners[owner]:
            self._owners.move_to_end(owner)
        else:
            del self._owners[owner]
        return owner, job_id, data

    def remove(self, job_id: str) -> bool:
        """Take out the start of a job; return False if it is not in the queue."""
        owner = self._owner_of.pop(job_id, None)
        if owner is None:
            return False
        del self._owners[owner][job_id]
        if not self._owners[owner]:
            del self._owners[owner]
        return True
