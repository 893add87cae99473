"""Which owners wait for units of pools, and in which order.

Without this order, jobs that need few units could start before a job that needs many, again and
again.

If an owner has a turn but the owner's first job lacks units, the owner gets a claim on the pools
that lack them. Then only owners with an older claim can take units of these pools. All pools have
the same order of claims, so that two jobs that need the same two pools never wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from worker_core.queue.waiting import Waiting


@dataclass
class Claim:
    """What one owner has waited for since their turn came."""

    job: Waiting
    """The job that lacked units."""
    pools: set[str] = field(default_factory=set)


class Claims:
    """The claims of all owners, the oldest first."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def __iter__(self) -> Iterator[tuple[str, Claim]]:
        return iter(list(self._claims.items()))

    def of(self, owner: str) -> Claim | None:
        """Return the claim of an owner."""
        return self._claims.get(owner)

    def make(self, job: Waiting, pools: Iterable[str]) -> None:
        """Note that a job lacks units; an owner has one claim at a time."""
        claim = self._claims.setdefault(job.owner, Claim(job))
        if claim.job is job:
            claim.pools.update(pools)

    def kept_from(self, owner: str) -> set[str]:
        """Return the pools whose units are kept for others."""
        kept: set[str] = set()
        for other, claim in self._claims.items():
            if other == owner:
                break
            kept |= claim.pools
        return kept

    def started(self, job: Waiting) -> None:
        """Note that a job takes its units, which fulfils the claim of its owner."""
        claim = self._claims.get(job.owner)
        if claim is not None and (claim.job is job or not claim.pools.isdisjoint(job.needs)):
            del self._claims[job.owner]

    def gone(self, job: Waiting) -> None:
        """Note that a job no longer waits for units."""
        claim = self._claims.get(job.owner)
        if claim is not None and claim.job is job:
            del self._claims[job.owner]
