"""Metrics in Prometheus' text format (version 0.0.4).

The daemon needs only a counter, a histogram, and numbers that are counted elsewhere; so it uses no
library for them.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]  # suffix of the name, labels, value


class Counter:
    """A number for each combination of label values, which only grows."""

    kind = "counter"

    def __init__(self, name: str, doc: str, labels: Sequence[str] = ()) -> None:
        self.name, self.doc = name, doc
        self._labels = tuple(labels)
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *values: str, amount: float = 1) -> None:
        """Add to the number for these label values."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + amount

    def samples(self) -> Iterable[Sample]:
        """Return the samples."""
        with self._lock:
            counted = sorted(self._values.items())
        return [("", dict(zip(self._labels, key, strict=True)), value) for key, value in counted]


class Reading:
    """Present numbers that are counted elsewhere: one, or one for each value of a label."""

    def __init__(
        self,
        name: str,
        doc: str,
        values: Mapping[str, float] | float,
        *,
        label: str = "",
        kind: str,
    ) -> None:
        self.name, self.doc, self.kind = name, doc, kind
        self._values = values if isinstance(values, Mapping) else {"": values}
        self._label = label

    def samples(self) -> Iterable[Sample]:
        """Return the samples."""
        label = self._label
        return [("", {label: key} if label else {}, value) for key, value in self._values.items()]


class Histogram:
    """Counts values in buckets, which are given by their upper bounds."""

    kind = "histogram"

    def __init__(self, name: str, doc: str, label: str, buckets: Sequence[float]) -> None:
        self.name, self.doc = name, doc
        self._label, self._ends = label, tuple(buckets)
        self._lock = threading.Lock()
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, key: str, value: float) -> None:
        """Count a value."""
        with self._lock:
            counts = self._counts.setdefault(key, [0] * (len(self._ends) + 1))
            counts[bisect.bisect_left(self._ends, value)] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def samples(self) -> Iterable[Sample]:
        """Return the samples. Each bucket also counts the values of the smaller ones."""
        with self._lock:
            counted = {key: (list(counts), self._sums[key]) for key, counts in self._counts.items()}
        ends = [*map(_number, self._ends), "+Inf"]
        for key, (counts, total) in sorted(counted.items()):
            seen = 0
            for end, count in zip(ends, counts, strict=True):
                seen += count
                yield "_bucket", {self._label: key, "le": end}, seen
            yield "_sum", {self._label: key}, total
            yield "_count", {self._label: key}, seen


Metric = Counter | Reading | Histogram


def text(metrics: Iterable[Metric]) -> str:
    """Return all metrics in Prometheus' text format."""
    lines: list[str] = []
    for each in metrics:
        lines += [f"# HELP {each.name} {each.doc}", f"# TYPE {each.name} {each.kind}"]
        lines += [
            _line(each.name + suffix, labels, value) for suffix, labels, value in each.samples()
        ]
    return "\n".join(lines) + "\n"


def _line(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
