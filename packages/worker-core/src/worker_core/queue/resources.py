"""Pools of units that jobs take while they run, and which job has which units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Needs = Mapping[str, int]
Units = Mapping[str, tuple[str, ...] | int]
"""The units of a running job, by pool: their names, or how many if they have no names."""


@dataclass(frozen=True)
class Pool:
    """Units of one kind; one job at a time can have a unit."""

    name: str
    units: tuple[str, ...] | int
    """The names of the units, or how many there are if they have no names."""

    @property
    def total(self) -> int:
        """How many units there are."""
        return self.units if isinstance(self.units, int) else len(self.units)


class Pools:
    """All pools, and the units that each running job has."""

    def __init__(self, pools: Iterable[Pool] = ()) -> None:
        self._pools = {pool.name: pool for pool in pools}
        self._taken = dict.fromkeys(self._pools, 0)
        self._holders: dict[str, Units] = {}
        # Names in use, counted: after a restart two jobs can have the same one.
        self._names: dict[str, dict[str, int]] = {name: {} for name in self._pools}

    def total(self, name: str) -> int:
        """Return how many units a pool has; 0 if there is no such pool."""
        pool = self._pools.get(name)
        return 0 if pool is None else pool.total

    def free(self, name: str) -> int:
        """Return how many units of a pool are free."""
        return max(self.total(name) - self._taken.get(name, 0), 0)

    def impossible(self, needs: Needs) -> Iterator[tuple[str, str]]:
        """Yield each pool that can never have as many units as needed, with the reason."""
        for name, needed in needs.items():
            if name not in self._pools:
                known = ", ".join(sorted(self._pools)) or "none"
                yield name, f"no such pool; known are {known}"
            elif needed > self.total(name):
                yield name, f"asks for {needed} units, and the server has {self.total(name)}"

    def short(self, needs: Needs) -> list[str]:
        """Return the pools that have too few free units."""
        return [name for name, needed in needs.items() if self.free(name) < needed]

    def take(self, holder: str, needs: Needs) -> Units:
        """Give units to a job that starts, and return them. There must be enough (see `short`)."""
        units = {name: self._choose(name, needed) for name, needed in needs.items()}
        self.occupy(holder, units)
        return units

    def occupy(self, holder: str, units: Units) -> None:
        """Note the units of a job that already runs, even if a pool has fewer units now."""
        units = {name: each for name, each in units.items() if name in self._pools}
        if units:
            self._holders[holder] = units
            self._count(units, 1)

    def held(self, holder: str) -> Units:
        """Return the units of a job."""
        return self._holders.get(holder, {})

    def give_back(self, holder: str) -> None:
        """Take back the units of a job, if it has any."""
        if holder in self._holders:
            self._count(self._holders.pop(holder), -1)

    def _choose(self, name: str, needed: int) -> tuple[str, ...] | int:
        units = self._pools[name].units
        if isinstance(units, int):
            return needed
        used = self._names[name]
        return tuple(each for each in units if not used.get(each))[:needed]

    def _count(self, units: Units, sign: int) -> None:
        for name, each in units.items():
            if isinstance(each, int):
                self._taken[name] += sign * each
                continue
            self._taken[name] += sign * len(each)
            for unit in each:
                self._names[name][unit] = self._names[name].get(unit, 0) + sign
