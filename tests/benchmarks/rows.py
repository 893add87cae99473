"""What was measured: medians, ratios, and whether the target is met."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound; of the ratio where there is a baseline, else of the measured value itself."""

    most: float | None = None
    least: float | None = None

    def met(self, value: float) -> bool:
        """Say whether a value is within the bound."""
        over = self.most is not None and value > self.most
        return not over and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table: a value of each round, and of the baseline in the same round."""

    what: str
    unit: str
    measured: Sequence[float]
    against: str = ""
    baseline: Sequence[float] = ()
    target: Target | None = None

    @property
    def median(self) -> float:
        """The median of what was measured."""
        return statistics.median(self.measured)

    @property
    def ratio(self) -> float | None:
        """The median of the ratios of each round, which a busy machine disturbs least."""
        if not self.baseline:
            return None
        pairs = zip(self.measured, self.baseline, strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @property
    def met(self) -> bool | None:
        """Whether the target is met, None if there is none."""
        if self.target is None:
            return None
        return self.target.met(self.median if self.ratio is None else self.ratio)

    def document(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        target = self.target
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "against": self.against or None,
            "baseline_median": statistics.median(self.baseline) if self.baseline else None,
            "ratio": self.ratio,
            "target": None if target is None else {"most": target.most, "least": target.least},
            "met": self.met,
            "measured": list(self.measured),
            "baseline": list(self.baseline),
        }


def alternate(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Call every side in every round, in turns forwards and backwards; return what they gave.

    So what changes on the machine meanwhile, its frequency or other people's load, meets all sides
    alike. A first call of each is thrown away.
    """
    for side in sides.values():
        side()
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            found[name].append(sides[name]())
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
