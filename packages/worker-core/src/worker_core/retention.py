"""Removing finished jobs by age, count and bytes, as the settings say."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger(__name__)

_INTERVAL = 60.0  # seconds


class Limits(Protocol):
    """The part of the engine's settings that says what is kept; None keeps everything."""

    @property
    def keep_count(self) -> int | None: ...
    @property
    def keep_bytes(self) -> int | None: ...
    @property
    def keep_bytes_per_owner(self) -> int | None: ...


@dataclass(frozen=True)
class Finished:
    """A finished job as retention sees it; `ended_at` is Unix seconds."""

    id: str
    owner: str
    ended_at: float
    output_bytes: int


@dataclass(frozen=True)
class Kept:
    """What one owner's finished jobs amount to."""

    jobs: int
    output_bytes: int


def expired(
    oldest_first: Iterable[Finished],
    kept: Mapping[str, Kept],
    limits: Limits,
    too_old: float | None,
) -> list[str]:
    """Return the ids to remove: of each owner with too much the oldest, until all is within limits.

    A limit on the total is shared: what owners do not use of their equal share goes to the others.
    So whoever keeps the most loses jobs first, and nobody can have the jobs of others removed.

    Reads no further than it must. `kept` has an entry for every owner; a job that ended before the
    stamp `too_old` goes in any case.
    """
    count = {owner: each.jobs for owner, each in kept.items()}
    size = {owner: each.output_bytes for owner, each in kept.items()}
    most_jobs = _share(count.values(), limits.keep_count)
    most_bytes = min(_share(size.values(), limits.keep_bytes), _or_any(limits.keep_bytes_per_owner))

    def over(owner: str) -> bool:
        return count[owner] > most_jobs or size[owner] > most_bytes

    too_much = {owner for owner in kept if over(owner)}
    gone = []
    for each in oldest_first:
        old = too_old is not None and each.ended_at < too_old
        if not (old or too_much):
            break
        if old or each.owner in too_much:
            gone.append(each.id)
            count[each.owner] -= 1
            size[each.owner] -= each.output_bytes
            if not over(each.owner):
                too_much.discard(each.owner)
    return gone


def _share(amounts: Iterable[int], total: int | None) -> float:
    """Return the most that each may keep so that all together keep at most `total`."""
    left = _or_any(total)
    ascending = sorted(amounts)
    for at, amount in enumerate(ascending):
        share = left // (len(ascending) - at)
        if amount > share:
            return share
        left -= amount
    return math.inf


def _or_any(limit: int | None) -> float:
    return math.inf if limit is None else limit


class Retention:
    """Looks from time to time, in a thread of its own."""

    def __init__(self, run: Callable[[], None]) -> None:
        """Call `run` now and every minute until closed."""
        self._run = run
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker-retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a run that is under way is finished first."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                self._run()
            except Exception:
                log.exception("retention failed; trying again later")
            if self._closing.wait(_INTERVAL):
                return
