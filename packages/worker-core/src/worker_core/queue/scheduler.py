"""Which queued job may start: first come, first served for each user, in fair turns between users.

Pure: it is told what happens and says what follows; it starts nothing and knows no clock. Of the
users with waiting jobs, the turn is that of the one with the fewest running, and among equals of
the one who has waited longest for a turn. Priorities and dependencies would be further rules of
`_next_owner` and of what `admit` puts aside.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

_COUNTED = 1000  # jobs; who waits behind more is told just that: each answer counts anew


class Scheduler:
    """The jobs that run or wait, by id and owner."""

    def __init__(self, max_running: int, max_running_of_owner: int = 0) -> None:
        """Have at most so many jobs run at a time, and so many of one user; 0 is no bound."""
        self.max_running = max_running
        self.max_running_of_owner = max_running_of_owner
        self._running: dict[str, str] = {}
        self._running_of: Counter[str] = Counter()
        # Owners with waiting jobs, the one whose turn is longest ago first; ids in their order. The
        # first of a plain dict is behind all that were first before it.
        self._waiting: dict[str, OrderedDict[str, None]] = {}
        self._waiting_ids: dict[str, str] = {}

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return len(self._waiting_ids)

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return len(self._running)

    def queued_of(self, owner: str) -> int:
        """How many jobs of a user wait."""
        return len(self._waiting.get(owner, ()))

    def has_slot(self, owner: str) -> bool:
        """Whether a new job of this user would run at once."""
        # Whoever could start has started, so that a free slot is passed by nobody in a queue.
        return self._free() and self._may_run(owner) and owner not in self._waiting

    def admit(self, job_id: str, owner: str) -> bool:
        """Take a new job: True if it has a slot and runs, False if it waits."""
        if self.has_slot(owner):
            self._take(job_id, owner)
            return True
        self.enqueue(job_id, owner)
        return False

    def enqueue(self, job_id: str, owner: str) -> None:
        """Put a job at the end of its owner's queue."""
        self._waiting.setdefault(owner, OrderedDict())[job_id] = None
        self._waiting_ids[job_id] = owner

    def occupy(self, job_id: str, owner: str) -> None:
        """Give a slot to a job that runs already, whatever the bound says."""
        self._take(job_id, owner)

    def withdraw(self, job_id: str) -> list[str]:
        """Take a job out, running or waiting; return the ids that may start now, in order."""
        owner = self._running.pop(job_id, None)
        if owner is not None:
            self._running_of -= Counter([owner])
        elif job_id in self._waiting_ids:
            self._unqueue(job_id)
        return self.ready()

    def ready(self) -> list[str]:
        """Give every free slot to a waiting job; return their ids, in order."""
        started = []
        while self._free() and (owner := self._next_owner()) is not None:
            job_id = next(iter(self._waiting[owner]))
            self._unqueue(job_id)
            if owner in self._waiting:  # its turn is over: to the end of the line
                self._waiting[owner] = self._waiting.pop(owner)
            self._take(job_id, owner)
            started.append(job_id)
        return started

    def why_waiting(self, job_id: str) -> str | None:
        """Return the sentence that says why a job waits, None if it does not."""
        owner = self._waiting_ids.get(job_id)
        if owner is None:
            return None
        if not self._free():
            slots = f"{self.running} of {self.max_running} running"
            return f"waiting for a free slot: {slots}{self._ahead(job_id, owner)}"
        if not self._may_run(owner):
            taken, most = self._running_of[owner], self.max_running_of_owner
            return f"waiting for a free slot of {owner}: {taken} of {most} running"
        return "about to start"

    def _ahead(self, job_id: str, owner: str) -> str:
        waiting = self._waiting[owner]
        number: int | str = f"more than {_COUNTED}"
        # From both ends: those that have just come are asked about most.
        for n, (first, last) in enumerate(zip(waiting, reversed(waiting), strict=True)):
            if job_id in (first, last) or n > _COUNTED:
                ahead = n if first == job_id else len(waiting) - 1 - n
                number = ahead if ahead <= _COUNTED else number
                break
        return f"; {number} of {owner}'s jobs are ahead of it" if number else ""

    def _free(self) -> bool:
        return not self.max_running or len(self._running) < self.max_running

    def _may_run(self, owner: str) -> bool:
        return not self.max_running_of_owner or self._running_of[owner] < self.max_running_of_owner

    def _next_owner(self) -> str | None:
        ready = filter(self._may_run, self._waiting)
        return min(ready, key=self._running_of.__getitem__, default=None)  # the first of equals

    def _take(self, job_id: str, owner: str) -> None:
        self._running[job_id] = owner
        self._running_of[owner] += 1

    def _unqueue(self, job_id: str) -> None:
        owner = self._waiting_ids.pop(job_id)
        del self._waiting[owner][job_id]
        if not self._waiting[owner]:
            del self._waiting[owner]
