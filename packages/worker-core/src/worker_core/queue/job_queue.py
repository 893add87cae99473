"""JobQueue: which job starts next, and why the others wait.

The caller reports what has happened, and gets the jobs that start. Nothing here reads a clock, the
store or the executor. Owners take turns: first comes the owner with the fewest running jobs for
their share. Among the jobs of one owner the highest priority is first, then the oldest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker_core.model.job import stamp
from worker_core.model.waiting.after import When
from worker_core.queue import arrays, dependencies, gates
from worker_core.queue.claims import Claims
from worker_core.queue.gates import Closed, Gate
from worker_core.queue.lines import Line, OwnerLines
from worker_core.queue.resources import Needs, Pool, Pools, Units
from worker_core.queue.timers import Timers
from worker_core.queue.turns import Turns
from worker_core.queue.waiting import Waiting

KEPT_PART = 16
"""1 of this many slots is kept for owners without a running job. Otherwise an owner whose jobs run
for days could take all slots."""


@dataclass
class _Elements:
    """How many elements of an array run, and how many may."""

    parallel: int | None = None
    running: int = 0
    jobs: int = 0
    """How many entries of this queue belong to it, running or waiting."""

    @property
    def full(self) -> bool:
        return self.parallel is not None and self.running >= self.parallel


class JobQueue:
    """The jobs that run or wait."""

    def __init__(
        self,
        max_running: int,
        max_running_per_owner: int = 0,
        *,
        shares: Mapping[str, float] | None = None,
        pools: Iterable[Pool] = (),
    ) -> None:
        """The maxima are for jobs that run at the same time; 0 means no limit per owner."""
        self.max_running = max_running
        self.max_running_per_owner = max_running_per_owner
        self.kept = max_running // KEPT_PART
        self._running: dict[str, Waiting] = {}
        self._running_of: Counter[str] = Counter()
        self._waiting: dict[str, Waiting] = {}
        self._queued: Counter[str] = Counter()  # of each owner; an array counts by its elements
        self._lines: dict[str, OwnerLines] = {}  # of owners with a job that is not set aside
        self._turns = Turns(shares)
        self._timers = Timers()
        self._pools = Pools(pools)
        self._claims = Claims()
        self._locks: set[tuple[str, str]] = set()  # that a running job has: owner and name
        self._arrays: dict[str, _Elements] = {}
        # Lines that are not looked at until a lock is free, or an array may run more elements.
        self._parked: dict[tuple[str, str], list[tuple[OwnerLines, Line]]] = {}
        self._total = 0  # waiting jobs
        self._dependencies = 0  # of all waiting jobs
        self._count = 0  # jobs added so far

    # -- what happens ------------------------------------------------------------------------------

    def admit(self, job: Waiting, now: float = 0.0) -> list[str]:
        """Take a new job; return the ids that start now: its own, those of its elements, or none.

        An element has the id of its array, a colon and its index.
        """
        if job.elements is None and self.would_start(job, now):
            self._number(job)
            self._run(job)
            if job.needs:
                self._pools.take(job.id, job.needs)
            return [job.id]
        self.enqueue(job, now)
        return self.ready()

    def enqueue(self, job: Waiting, now: float = 0.0) -> None:
        """Take a job that waits, as the last of its owner with its priority; start nothing."""
        self._number(job)
        job.impossible = any(True for _ in self._pools.impossible(job.needs))
        self._look_at_time(job, now)
        self._wait(job)

    def occupy(self, job: Waiting, units: Units | None = None) -> None:
        """Note a job that already runs, and its units; it may be more than the limits allow."""
        self._number(job)
        self._run(job)
        self._pools.occupy(job.id, units or {})

    def withdraw(self, job_id: str) -> list[str]:
        """Take out a job that has ended or must not start; return the ids of the jobs that start.

        The waiting elements of an array are taken out; its running elements stay.
        """
        job = self._running.get(job_id)
        if job is not None:
            self._stop(job)
        elif job_id in self._waiting:
            self._forget(self._waiting[job_id])
        elif (array := self._find(job_id)) is not None and array.elements is not None:
            array.elements.remove(_index(job_id))
            self._queue(array.owner, -1)
            if not array.elements:
                self._forget(array)
        return self.ready()

    def attempt_again(self, job_id: str, at: float, text: str) -> list[str]:
        """Let a job that ran wait for its next attempt; return the ids of the jobs that start.

        `text` is the sentence that users see while it waits.
        """
        job = self._running[job_id]
        job.retry_at, job.retry_text = at, text
        self._wait(job)
        self._stop(job)
        return self.ready()

    def attempt_now(self, job_id: str) -> list[str]:
        """End the wait of a job for its next attempt; return who starts."""
        job = self._waiting.get(job_id)
        if job is not None and job.retry_at is not None:
            job.retry_at = job.retry_text = None
            self._arrange(job)
        return self.ready()

    def fulfil(self, job_id: str, parent: str, when: When) -> None:
        """Note that a dependency of a job is fulfilled; `ready` returns whether it starts."""
        job = self._waiting.get(job_id)
        if job is not None:
            job.after.discard((parent, when))
            self._arrange(job)

    def update(self, job_id: str, changes: Mapping[str, Any], now: float) -> list[str]:
        """Change `priority`, `hold` or `start_after` of a waiting job, or `parallel` of an array.

        What is not in `changes` stays. Returns who starts.
        """
        job = self._waiting.get(job_id)
        if job is not None:
            self._leave(job)
            job.priority = changes.get("priority", job.priority)
            job.hold = changes.get("hold", job.hold)
            job.start_after = changes.get("start_after", job.start_after)
            job.parallel = changes.get("parallel", job.parallel)
            self._look_at_time(job, now)
            self._arrange(job)
        if job_id in self._arrays and "parallel" in changes:
            self._arrays[job_id].parallel = changes["parallel"]
            self._unpark("array", job_id)
        return self.ready()

    def tick(self, now: float) -> list[str]:
        """Note the time; return the jobs that start now, because their time has come."""
        for job_id in self._timers.due(now):
            job = self._waiting[job_id]
            self._look_at_time(job, now)
            self._arrange(job)
        return self.ready()

    def ready(self) -> list[str]:
        """Give every free slot to a job that may start; return their ids, in order."""
        started = []
        while self._free() and (job := self._next()) is not None:
            started.append(self._start(job))
        return started

    # -- questions ---------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """How many jobs wait; each element of an array is one."""
        return self._total

    @property
    def dependencies(self) -> int:
        """How many dependencies the jobs that wait have in all."""
        return self._dependencies

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return len(self._running)

    def queued_of(self, owner: str) -> int:
        """How many jobs of an owner wait."""
        return self._queued[owner]

    def pending(self, job_id: str) -> set[tuple[str, When]]:
        """Return the dependencies of a waiting job that are not fulfilled."""
        job = self._waiting.get(job_id)
        return set() if job is None else set(job.after)

    def waits(self, job_id: str) -> bool:
        """Return whether a job waits; an element of an array waits with its array."""
        return self._find(job_id) is not None

    def next_time(self) -> float | None:
        """Return the time of the next call of `tick`; None if no job waits for a time."""
        return self._timers.next()

    def impossible(self, needs: Needs) -> list[tuple[str, str]]:
        """Return the pools that can never have as many units as `needs`, with the reasons."""
        return list(self._pools.impossible(needs))

    def units(self, job_id: str) -> Units:
        """Return the units that a running job has."""
        return self._pools.held(job_id)

    def would_start(self, job: Waiting, now: float = 0.0) -> bool:
        """Return whether a new job would start at once."""
        self._look_at_time(job, now)
        if job.set_aside or not self._free() or not self._may_run(job.owner):
            return False
        if not job.needs and job.lock is None and job.array is None:
            return True  # the jobs in lines wait for something that this job does not need
        return job.owner not in self._lines and not any(True for _ in self._scarce_gates(job))

    def closed(self, job_id: str) -> list[Closed]:
        """Return every gate that is closed for a waiting job; none for one about to start."""
        job = self._find(job_id)
        return [] if job is None else [*self._own_gates(job), *self._scarce_gates(job)]

    def why_waiting(self, job_id: str) -> str | None:
        """Return the first reason why a job waits, None if it does not wait."""
        job = self._find(job_id)
        if job is None:
            return None
        gate = next(iter(self._own_gates(job)), None) or next(iter(self._scarce_gates(job)), None)
        return "about to start" if gate is None else gate.text

    def waiting_by_gate(self) -> Counter[Gate]:
        """Return how many jobs wait for what, each counted by its first gate."""
        found: Counter[Gate] = Counter()
        for job in self._waiting.values():
            if job.set_aside:
                found[_own_gate(job)] += job.size
        for lines in self._lines.values():
            for line in lines:
                first = next(iter(self._scarce_gates(line.first())), None)
                if first is not None:
                    found[first.gate] += len(line.keys) if line.array is None else line.size()
        return found

    # -- gates -------------------------------------------------------------------------------------

    def _own_gates(self, job: Waiting) -> Iterable[Closed]:
        if job.hold:
            yield gates.of_hold()
        if job.timed:
            yield gates.of_time(stamp(job.start_after) or "")
        if job.after:
            waits = sorted(job.after, key=lambda each: (each[0], each[1].value))
            details: dict[str, Any] = {
                "jobs": [{"job": parent, "when": when.value} for parent, when in waits]
            }
            yield Closed(Gate.DEPENDENCY, dependencies.why_waiting(waits), details)
        if job.retry_at is not None:
            yield Closed(Gate.RETRY, job.retry_text or "", {"until": stamp(job.retry_at)})
        if job.impossible:
            for name, _ in self._pools.impossible(job.needs):
                needed, total = job.needs[name], self._pools.total(name)
                yield gates.of_resource(name, needed, self._pools.free(name), total, kept=False)

    def _scarce_gates(self, job: Waiting) -> Iterable[Closed]:
        elements = self._arrays.get(job.array or job.id)
        if elements is not None and elements.parallel is not None and elements.full:
            text = arrays.why_waiting(elements.running, elements.parallel)
            yield Closed(Gate.ARRAY, text)
        if job.lock is not None and (job.owner, job.lock) in self._locks:
            yield gates.of_lock(job.lock)
        kept = self._kept_from(job)
        for name, needed in job.needs.items():
            free, total = self._pools.free(name), self._pools.total(name)
            if not job.impossible and (free < needed or name in kept):
                yield gates.of_resource(name, needed, free, total, kept=free >= needed)
        if not self._is_below_own_bound(job.owner):
            running = self._running_of[job.owner]
            yield gates.of_turn(running, self.max_running_per_owner, job.owner)
        if not self._free():
            ahead = self._lines[job.owner].ahead(job) if job.in_line else 0
            yield gates.of_slots(self.running, self.max_running, ahead, job.owner)
        elif self._are_kept_from(job.owner):
            yield gates.of_kept_slots(self.running, self.max_running, self.kept)

    # -- who is next -------------------------------------------------------------------------------

    def _next(self) -> Waiting | None:
        # Who has waited for units since their turn came does not wait for another turn.
        for owner, claim in self._claims:
            job = self._candidate(owner) if self._may_run(owner) else None
            if job is not None and not claim.pools.isdisjoint(job.needs):
                return job
        owners = [owner for owner in self._lines if self._may_run(owner)]
        while (turn := self._turns.next(owners, self._running_of)) is not None:
            job = self._candidate(turn)
            if job is not None:
                return job
            owners.remove(turn)
        return None

    def _candidate(self, owner: str) -> Waiting | None:
        """Return the first job of an owner that lacks nothing; claim what those before it lack."""
        short_of: set[str] = set()
        for line in self._heads(owner):
            job = line.first()
            short = [*self._pools.short(job.needs)] if job.needs else []
            kept = (self._kept_from(job) | short_of).intersection(job.needs) if job.needs else ()
            if not short and not kept:
                return job
            short_of.update(short, kept)
            self._claims.make(job, short_of.intersection(job.needs))
        return None

    def _heads(self, owner: str) -> list[Line]:
        """Return the lines of an owner that might move, in order; park those that cannot."""
        lines = self._lines.get(owner)
        if lines is None:
            return []
        heads = lines.heads()
        while waits := [(line, key) for line in heads if (key := self._parks(owner, line))]:
            for line, key in waits:
                lines.park(line)
                self._parked.setdefault(key, []).append((lines, line))
            heads = lines.heads()
        return heads

    def _parks(self, owner: str, line: Line) -> tuple[str, str] | None:
        """Return what a line waits for that is neither a slot nor a unit of a pool."""
        if line.lock is not None and (owner, line.lock) in self._locks:
            return f"lock {owner}", line.lock
        if line.array in self._arrays and self._arrays[line.array].full:
            return "array", line.array
        return None

    def _unpark(self, kind: str, name: str) -> None:
        for lines, line in self._parked.pop((kind, name), ()):
            lines.unpark(line)

    def _kept_from(self, job: Waiting) -> set[str]:
        """Return the pools whose units are kept for jobs that have waited longer."""
        kept = self._claims.kept_from(job.owner)
        own = self._claims.of(job.owner)
        if own is not None and own.job.key < job.key:
            kept |= own.pools
        return kept

    def _free(self) -> bool:
        return not self.max_running or len(self._running) < self.max_running

    def _may_run(self, owner: str) -> bool:
        return self._is_below_own_bound(owner) and not self._are_kept_from(owner)

    def _is_below_own_bound(self, owner: str) -> bool:
        most = self.max_running_per_owner
        return not most or self._running_of[owner] < most

    def _are_kept_from(self, owner: str) -> bool:
        """Return whether the slots that are left are kept for owners without a running job."""
        left = self.max_running - len(self._running)
        return bool(self.kept) and left <= self.kept and self._running_of[owner] > 0

    # -- jobs that come and go ---------------------------------------------------------------------

    def _number(self, job: Waiting) -> None:
        self._count += 1
        job.number = job.number or self._count

    def _wait(self, job: Waiting) -> None:
        self._waiting[job.id] = job
        self._queue(job.owner, job.size)
        self._dependencies += job.dependencies
        self._count_entry(job, 1)
        self._arrange(job)

    @staticmethod
    def _look_at_time(job: Waiting, now: float) -> None:
        job.timed = job.start_after is not None and job.start_after > now
        if job.retry_at is not None and job.retry_at <= now:
            job.retry_at = job.retry_text = None

    def _arrange(self, job: Waiting) -> None:
        """Put a waiting job into its line, or take it out while it waits for a time or a job."""
        if job.set_aside:
            self._leave(job)
        elif not job.in_line:
            job.in_line = True
            self._lines.setdefault(job.owner, OwnerLines()).add(job)
            self._turns.join(job.owner)
        if job.time is None:
            self._timers.clear(job.id)
        else:
            self._timers.set(job.id, job.time)

    def _leave(self, job: Waiting) -> None:
        """Take a waiting job out of its line, if it is in one."""
        if not job.in_line:
            return
        job.in_line = False
        lines = self._lines[job.owner]
        lines.remove(job)
        if not lines:
            del self._lines[job.owner]
            self._turns.leave(job.owner)
        self._claims.gone(job)

    def _forget(self, job: Waiting) -> None:
        """Drop a waiting job, or the waiting elements of an array."""
        self._leave(job)
        self._timers.clear(job.id)
        del self._waiting[job.id]
        self._queue(job.owner, -job.size)
        self._dependencies -= job.dependencies
        self._count_entry(job, -1)

    def _start(self, job: Waiting) -> str:
        """Start the first job of a line, or the first element of an array there."""
        self._turns.take(job.owner)
        self._claims.started(job)
        starts = job if job.elements is None else job.element(job.elements.take())
        self._run(starts)
        self._pools.take(starts.id, starts.needs)
        if starts is not job:
            self._queue(job.owner, -1)
        if starts is job or not job.elements:
            self._forget(job)
        return starts.id

    def _run(self, job: Waiting) -> None:
        self._running[job.id] = job
        self._running_of[job.owner] += 1
        if job.lock is not None:
            self._locks.add((job.owner, job.lock))
        if job.array is not None:
            self._count_entry(job, 1)
            self._arrays[job.array].running += 1

    def _stop(self, job: Waiting) -> None:
        del self._running[job.id]
        self._running_of[job.owner] -= 1
        if not self._running_of[job.owner]:
            del self._running_of[job.owner]
        self._pools.give_back(job.id)
        if job.lock is not None:
            self._locks.discard((job.owner, job.lock))
            self._unpark(f"lock {job.owner}", job.lock)
        if job.array is not None:
            self._arrays[job.array].running -= 1
            self._count_entry(job, -1)
            self._unpark("array", job.array)

    def _count_entry(self, job: Waiting, number: int) -> None:
        """Count an entry of an array that comes or goes; with the last one its numbers go."""
        array = job.id if job.elements is not None else job.array
        if array is not None:
            elements = self._arrays.setdefault(array, _Elements(job.parallel))
            elements.jobs += number
            if not elements.jobs:
                del self._arrays[array]

    def _queue(self, owner: str, number: int) -> None:
        self._total += number
        self._queued[owner] += number
        if not self._queued[owner]:
            del self._queued[owner]

    def _find(self, job_id: str) -> Waiting | None:
        """Return the waiting job with an id, or the array that a waiting element belongs to."""
        job = self._waiting.get(job_id)
        if job is not None:
            return job
        array = self._waiting.get(job_id.partition(":")[0])
        if array is None or array.elements is None:
            return None
        return array if _index(job_id) in array.elements else None


def _own_gate(job: Waiting) -> Gate:
    """Return the first gate of a job that is set aside, without its sentence."""
    if job.hold:
        return Gate.HOLD
    if job.timed:
        return Gate.TIME
    if job.after:
        return Gate.DEPENDENCY
    return Gate.RETRY if job.retry_at is not None else Gate.RESOURCE


def _index(job_id: str) -> int:
    index = job_id.partition(":")[2]
    return int(index) if index.isascii() and index.isdecimal() else -1
