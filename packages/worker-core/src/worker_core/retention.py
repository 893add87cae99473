"""Removing finished jobs by age, count and bytes, as the settings say."""

from __future__ import annotations

import logging
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
    """Return the ids to remove: the oldest, until what is left is within every limit.

    Reads no further than it must. `kept` has an entry for every owner; a job that ended before the
    stamp `too_old` goes in any case.
    """
    count = sum(each.jobs for each in kept.values())
    sizes = {owner: each.output_bytes for owner, each in kept.items()}
    size = sum(sizes.values())
    too_large = {owner for owner in sizes if _over(sizes[owner], limits.keep_bytes_per_owner)}
    gone = []
    for each in oldest_first:
        old = too_old is not None and each.ended_at < too_old
        over = _over(count, limits.keep_count) or _over(size, limits.keep_bytes)
        if not (old or over or too_large):
            break
        if old or over or each.owner in too_large:
            gone.append(each.id)
            count, size = count - 1, size - each.output_bytes
            sizes[each.owner] -= each.output_bytes
            if not _over(sizes[each.owner], limits.keep_bytes_per_owner):
                too_large.discard(each.owner)
    return gone


def _over(value: int, most: int | None) -> bool:
    return most is not None and value > most


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
