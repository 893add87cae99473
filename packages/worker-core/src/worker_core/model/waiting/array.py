"""Array: many jobs from one spec, one for each index or item. Part of a JobSpec."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from worker_core.model import rules
from worker_core.model.errors import echo, name_echo

Problems = Iterator[tuple[str, str]]  # (path below the field, what is wrong with it)
Item = str | Mapping[str, str]

HARD_LIMIT = 1_000_000
"""The most elements of an array. The settings of an engine may allow fewer."""
MAX_INDEX = 999_999_999
MAX_NAMES = 64  # of one item
_LONGEST_INDICES = 100_000  # characters

_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?", re.ASCII)


@dataclass(frozen=True)
class Array:
    """Which elements there are, and how many of them run at once.

    Either `indices` or `items` is given. The elements of items are numbered from 1, so that the
    index of an element is the number of its line in a file of items.
    """

    indices: str | None = None
    """Numbers and ranges, as in 1-100, 0-10:2 (every second one) or 1,3,7."""
    items: Sequence[Item] | None = None
    """Either all are texts, or all are objects of texts with the same names."""
    parallel: int | None = None
    """The most elements that run at the same time; None: no limit."""
    max_failures: int | None = None
    """If this many elements have failed, the waiting ones are skipped; None: no limit."""

    def problems(self) -> Problems:
        """Yield the faults of each field; accepts values of any type."""
        if (self.indices is None) == (self.items is None):
            yield "", "must have either indices or items"
        elif self.indices is not None:
            try:
                parse_indices(self.indices)
            except ValueError as error:
                yield ".indices", str(error)
        else:
            yield from _items(self.items)
        for name in ("parallel", "max_failures"):
            value = getattr(self, name)
            if value is not None and not (rules.is_whole(value) and 1 <= value <= HARD_LIMIT):
                yield f".{name}", f"must be a whole number from 1 to {HARD_LIMIT}"

    @property
    def size(self) -> int:
        """How many elements there are."""
        if self.items is not None:
            return len(self.items)
        return sum(map(len, self.runs()))

    def runs(self) -> tuple[range, ...]:
        """Return all indices as ranges, in ascending order."""
        if self.items is not None:
            return (range(1, len(self.items) + 1),)
        return parse_indices(self.indices or "")

    def item(self, index: int) -> Item | None:
        """Return the item of an element; None if the array has only indices."""
        return None if self.items is None else self.items[index - 1]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, of what is set."""
        shown = {name: each for name, each in vars(self).items() if each is not None}
        if self.items is not None:
            shown["items"] = [_shown(each) for each in self.items]
        return shown


def from_dict(value: object) -> Array:
    """Make an array from its JSON form.

    Raise ValueError if it is not an object, and KeyError with the name of an unknown field.
    `problems` checks the values.
    """
    if not isinstance(value, dict):
        raise ValueError("must be an object with indices or items")
    known = [each.name for each in fields(Array)]
    for name in value:
        if name not in known:
            raise KeyError(f"{name_echo(name)}: unknown field; known are {', '.join(known)}")
    given = {name: each for name, each in value.items() if each is not None}
    if isinstance(given.get("items"), list):
        given["items"] = tuple(given["items"])
    return Array(**given)


def parse_indices(text: object) -> tuple[range, ...]:
    """Return the indices that a text names, ascending and each once; raise ValueError.

    The syntax is that of Slurm: numbers and ranges with an optional step, joined by commas.
    """
    if not isinstance(text, str):
        raise ValueError("must be a text, as in 1-100, 0-10:2 or 1,3,7")
    if len(text) > _LONGEST_INDICES:
        raise ValueError(f"must be at most {_LONGEST_INDICES} characters")
    if "%" in text:
        raise ValueError("must not contain '%'; how many run at once is the field parallel")
    parts = [_part(each) for each in text.split(",")]
    size = sum(map(len, parts))
    if size > HARD_LIMIT:
        raise ValueError(f"must be at most {HARD_LIMIT} indices, not {size}")
    if len(parts) == 1:
        return tuple(parts)
    return tuple(joined(sorted({index for part in parts for index in part})))


def joined(indices: Sequence[int]) -> Iterator[range]:
    """Yield ascending indices as ranges with a step of 1."""
    first = 0
    for at in range(1, len(indices) + 1):
        if at == len(indices) or indices[at] != indices[at - 1] + 1:
            yield range(indices[first], indices[at - 1] + 1)
            first = at


def _part(text: str) -> range:
    found = _PART.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{name_echo(text)!r} is not an index of up to {MAX_INDEX} or a range of them, as in "
            "7, 1-100 or 0-10:2"
        )
    first, last, step = found.groups()
    if last is None:
        return range(int(first), int(first) + 1)
    if int(last) < int(first):
        raise ValueError(f"{text.strip()!r} is a range that ends before it begins")
    if step is not None and int(step) == 0:
        raise ValueError(f"{text.strip()!r} has a step of 0")
    return range(int(first), int(last) + 1, int(step or 1))


def _items(value: object) -> Problems:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        yield ".items", "must be a list of texts, or of objects of texts"
        return
    if not value or len(value) > HARD_LIMIT:
        yield ".items", f"must be 1 to {HARD_LIMIT} items, not {len(value)}"
        return
    if isinstance(value[0], str):
        wrong = (at for at, each in enumerate(value) if not isinstance(each, str))
        for at in islice(wrong, 1):
            yield f".items[{at}]", "must be a text as the first item is"
        return
    if not isinstance(value[0], Mapping):
        yield ".items[0]", "must be a text, or an object of texts"
        return
    yield from _objects(value)


def _objects(items: Sequence[Any]) -> Problems:
    names = items[0].keys()
    if not names or len(names) > MAX_NAMES:
        yield ".items[0]", f"must have 1 to {MAX_NAMES} names"
        return
    for name in names:
        if not isinstance(name, str) or not name or set(name) & set("{}"):
            yield f".items[0][{echo(name)}]", "as a name: must be a text without braces"
            return
    for at, item in enumerate(items):
        if not isinstance(item, Mapping) or item.keys() != names:
            yield f".items[{at}]", "must be an object with the same names as the first item"
            return
        for name, each in item.items():
            if not isinstance(each, str):
                yield f".items[{at}][{echo(name)}]", "must be a text"
                return


def _shown(item: Item) -> str | dict[str, str]:
    return item if isinstance(item, str) else dict(item)
