"""The state of a whole array, and which of its elements have not started yet."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from worker_core.model.state import State

_FAILURES = (State.FAILED, State.TIMED_OUT, State.OUT_OF_MEMORY, State.LOST)
_RUNNING = (State.RUNNING, State.STOPPING)


class Indices:
    """The indices of elements that have not started yet, the lowest first.

    They are kept as ranges, so that the memory of a hundred thousand waiting elements is that of
    one, and grows only with what was taken from the middle.
    """

    def __init__(self, runs: Iterable[range]) -> None:
        """Take ranges that are ascending, each of which ends before the next one begins."""
        self._runs = [run for run in runs if run]
        self._runs.reverse()  # the lowest last, where it is cheap to take

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __iter__(self) -> Iterator[int]:
        for run in reversed(self._runs):
            yield from run

    def __contains__(self, index: int) -> bool:
        return self._at(index) is not None

    def first(self) -> int:
        """Return the lowest index; there has to be one."""
        return self._runs[-1][0]

    def take(self) -> int:
        """Remove the lowest index and return it; there has to be one."""
        run = self._runs.pop()
        if len(run) > 1:
            self._runs.append(run[1:])
        return run[0]

    def remove(self, index: int) -> bool:
        """Remove an index; return whether it was there."""
        at = self._at(index)
        if at is None:
            return False
        run = self._runs[at]
        place = run.index(index)
        self._runs[at : at + 1] = [each for each in (run[place + 1 :], run[:place]) if each]
        return True

    def _at(self, index: int) -> int | None:
        # Only one run can contain it: the last one that does not begin above it.
        at = bisect_left(self._runs, -index, key=lambda run: -run[0])
        return at if at < len(self._runs) and index in self._runs[at] else None


def state(counts: Mapping[State, int], *, killed: bool = False) -> State:
    """Return the state of an array, which follows from those of its elements.

    `killed` means that a user has asked to end the whole array.
    """
    live = sum(counts.get(each, 0) for each in (State.QUEUED, *_RUNNING))
    if live:
        waits = counts.get(State.QUEUED, 0) == sum(counts.values())
        return State.QUEUED if waits else State.RUNNING
    if killed:
        return State.KILLED
    return State.COMPLETED if set(+Counter(counts)) <= {State.COMPLETED} else State.FAILED


def too_many_failures(counts: Mapping[State, int], max_failures: int | None) -> bool:
    """Return whether enough elements have failed for the waiting ones to be skipped."""
    return max_failures is not None and failures(counts) >= max_failures


def failures(counts: Mapping[State, int]) -> int:
    """Return how many elements have ended without completing, but were not killed."""
    return sum(counts.get(each, 0) for each in _FAILURES)


def why_skipped(counts: Mapping[State, int]) -> str:
    """Return the sentence of an element that does not start because too many others failed."""
    return f"skipped: {failures(counts)} elements of the array have failed"


def why_waiting(running: int, parallel: int) -> str:
    """Return the sentence of an element that waits for others of its array."""
    return f"waiting for other elements of the array: {running} of {parallel} running"


def progress(counts: Mapping[State, int]) -> str:
    """Return one line for people, as in "87/100 done, 2 failed, 5 running"."""
    done = counts.get(State.COMPLETED, 0)
    parts = [f"{done}/{sum(counts.values())} done"]
    running = sum(counts.get(each, 0) for each in _RUNNING)
    numbers = {"failed": failures(counts)}
    numbers |= {each.value: counts.get(each, 0) for each in (State.KILLED, State.SKIPPED)}
    for word, number in (numbers | {"running": running}).items():
        if number:
            parts.append(f"{number} {word}")
    return ", ".join(parts)
