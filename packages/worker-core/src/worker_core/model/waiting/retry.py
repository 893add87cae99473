"""RetryPolicy: when a job that did not complete is attempted again. Part of a JobSpec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from worker_core.model import rules
from worker_core.model.errors import echo, name_echo
from worker_core.model.state import State

Problems = Iterator[tuple[str, str]]  # (path below the field, what is wrong with it)

MAX_RETRIES = 1000
MAX_DELAY = 366 * 86400.0  # seconds
RETRIED = (State.FAILED, State.TIMED_OUT, State.OUT_OF_MEMORY, State.LOST)
"""Ends of an attempt after which another one may follow; `lost` only if the job names it."""
_WORDS = ", ".join(each.value for each in RETRIED)
_USUAL = (State.FAILED, State.TIMED_OUT, State.OUT_OF_MEMORY)


@dataclass(frozen=True)
class RetryPolicy:
    """Up to `max` further attempts, each after a longer wait than the one before."""

    max: int
    """How many attempts may follow the first one."""
    delay: float = 10.0
    """Seconds between the end of the first attempt and the start of the second."""
    factor: float = 2.0
    """Each further wait is longer by this factor."""
    max_delay: float = 360.0
    """The longest wait in seconds, before it is varied by up to 25 % at random."""
    on: Sequence[State] = _USUAL
    """The ends of an attempt after which another one follows."""
    exit_codes: Sequence[int] | None = None
    """After a failed attempt, another one follows only for these exit codes; None: for all."""

    def problems(self) -> Problems:
        """Yield the faults of each field; accepts values of any type."""
        if not rules.is_whole(self.max) or not 0 <= self.max <= MAX_RETRIES:
            yield ".max", f"must be a whole number from 0 to {MAX_RETRIES}"
        for name in ("delay", "max_delay"):
            yield from _number(f".{name}", getattr(self, name), 0.0, MAX_DELAY)
        yield from _number(".factor", self.factor, 1.0, 1000.0)
        yield from _states(self.on)
        yield from _codes(self.exit_codes)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        shown: dict[str, Any] = {name: getattr(self, name) for name in ("max", "delay", "factor")}
        shown |= {"max_delay": self.max_delay, "on": [each.value for each in self.on]}
        return shown | ({} if self.exit_codes is None else {"exit_codes": list(self.exit_codes)})


def from_dict(value: object) -> RetryPolicy:
    """Make a policy from its JSON form.

    Raise ValueError if it is not an object or lacks `max`, and KeyError with the name of an unknown
    field. `problems` checks the other values.
    """
    if not isinstance(value, dict):
        raise ValueError("must be an object with max")
    known = [each.name for each in fields(RetryPolicy)]
    for name in value:
        if name not in known:
            raise KeyError(f"{name_echo(name)}: unknown field; known are {', '.join(known)}")
    given = {name: each for name, each in value.items() if each is not None}
    if "max" not in given:
        raise ValueError(".max: required")
    if isinstance(given.get("on"), list):
        given["on"] = tuple(map(_state, given["on"]))
    if isinstance(given.get("exit_codes"), list):
        given["exit_codes"] = tuple(given["exit_codes"])
    return RetryPolicy(**given)


def _state(word: object) -> object:
    """Return the state with this name; return any other value, which `problems` reports."""
    return next((each for each in State if each.value == word), word)


def _states(value: object) -> Problems:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        yield ".on", f"must be a list of one or more of {_WORDS}"
        return
    for at, each in enumerate(value[: len(State) + 1]):
        if each not in RETRIED:
            shown = each.value if isinstance(each, State) else each
            yield f".on[{at}]", f"must be one of {_WORDS}, not {echo(shown)}"
    if len(value) > len(State):
        yield ".on", "names a state more than once"


def _codes(value: object) -> Problems:
    if value is None:
        return
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not value:
        yield ".exit_codes", "must be a list of one or more exit codes"
        return
    if len(value) > 255:
        yield ".exit_codes", "must be at most 255 exit codes"
        return
    for at, each in enumerate(value):
        if not rules.is_whole(each) or not 1 <= each <= 255:
            yield f".exit_codes[{at}]", "must be a whole number from 1 to 255"


def _number(path: str, value: object, least: float, most: float) -> Problems:
    if not rules.is_number(value):
        yield path, "must be a number"
    elif not least <= value <= most:  # nor is NaN
        yield path, f"must be from {least:g} to {most:.0f}"
