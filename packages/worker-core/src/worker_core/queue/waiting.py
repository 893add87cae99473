"""Waiting: a job that waits, what it needs to start, and what its owner has it wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from worker_core.model.waiting.after import When
from worker_core.queue.arrays import Indices

LAST = 1 << 62
Key = tuple[int, int, int]
"""The order of one owner's jobs: by priority, then by age, then by index in an array."""

_NOTHING: Mapping[str, int] = {}


@dataclass(slots=True, eq=False)
class Waiting:
    """A job that waits, or the elements of an array that have not started yet.

    A waiting job is in a line of its owner unless it is set aside: it is held, its time has not
    come, or it waits for another job or for its next attempt.
    """

    id: str
    owner: str
    priority: int = 0
    hold: bool = False
    start_after: float | None = None
    after: set[tuple[str, When]] = field(default_factory=set)
    """The dependencies that are not fulfilled: a job, and what it must have reached."""
    dependencies: int = 0
    """How many dependencies it has, fulfilled or not. Each one is a record in the database."""
    retry_at: float | None = None
    retry_text: str | None = None
    array: str | None = None
    """The array that it belongs to."""
    elements: Indices | None = None
    """The elements, if this is an array; None for a single job."""
    lock: str | None = None
    needs: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    parallel: int | None = None
    """How many elements of its array may run at once."""
    number: int = 0
    """A number that grows with each new job: the oldest job has the lowest."""
    index: int = LAST
    """Of an element; an array comes after its own elements that are attempted again."""
    timed: bool = False
    """Whether the time of `start_after` has not come."""
    impossible: bool = False
    """Whether it needs more units than there are, since the settings were changed."""
    in_line: bool = False

    @property
    def key(self) -> Key:
        """The key by which the jobs of its owner are ordered."""
        return -self.priority, self.number, self.index

    @property
    def set_aside(self) -> bool:
        """Whether it is not in a line, because it could not start even if it had a turn."""
        waits = self.hold or self.timed or self.retry_at is not None or bool(self.after)
        return waits or self.impossible

    @property
    def time(self) -> float | None:
        """The next time at which it may enter its line; None if it does not wait for a time."""
        times = [self.start_after] if self.timed else []
        return min((each for each in (*times, self.retry_at) if each is not None), default=None)

    @property
    def size(self) -> int:
        """How many jobs it is: 1, or the number of waiting elements of an array."""
        return 1 if self.elements is None else len(self.elements)

    def element(self, index: int) -> Waiting:
        """Return an element of the array that it is, as a job."""
        return Waiting(
            f"{self.id}:{index}",
            self.owner,
            priority=self.priority,
            array=self.id,
            lock=self.lock,
            needs=self.needs,
            parallel=self.parallel,
            number=self.number,
            index=index,
        )
