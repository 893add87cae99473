"""Chooses the finished jobs to remove, by age, count and bytes. Pure: it removes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


class Limits(Protocol):
    """The engine's settings that say what is kept; None keeps everything."""

    @property
    def keep_count(self) -> int | None: ...
    @property
    def keep_bytes(self) -> int | None: ...
    @property
    def keep_bytes_per_owner(self) -> int | None: ...


@dataclass(frozen=True)
class Finished:
    """What matters of a finished job; `ended_at` is Unix seconds."""

    id: str
    owner: str
    ended_at: float
    output_bytes: int


@dataclass(frozen=True)
class Kept:
    """How many finished jobs one owner has, and how many bytes they take."""

    jobs: int
    output_bytes: int


def expired(
    oldest_first: Iterable[Finished],
    kept: Mapping[str, Kept],
    limits: Limits,
    too_old: float | None,
) -> list[str]:
    """Return the ids to remove: the oldest jobs of owners who have too much.

    A limit on the total is shared equally: what some owners do not use of their share goes to the
    others. So the owners who keep the most lose jobs first, and no owner can have the jobs of
    others removed.

    Reads only as many jobs as needed. `kept` has an entry for every owner. A job that ended before
    `too_old` (Unix seconds) is removed in any case.
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
