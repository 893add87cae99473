"""What keeps a job from starting, each with a sentence for people."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Gate(enum.Enum):
    """A reason to wait; the value is the word of the API.

    In the order in which they are shown: first what the owner asked for, then what is scarce.
    """

    HOLD = "hold"
    TIME = "time"
    DEPENDENCY = "dependency"
    RETRY = "retry"
    ARRAY = "array"
    LOCK = "lock"
    RESOURCE = "resource"
    TURN = "turn"
    SLOTS = "slots"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Closed:
    """A gate that is closed for a job now, and why."""

    gate: Gate
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    """More about it for programs, as the API shows it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"gate": self.gate.value, "text": self.text, **self.details}


def of_slots(running: int, most: int, ahead: int, owner: str) -> Closed:
    """The server runs as many jobs as its settings allow."""
    are = "is" if ahead == 1 else "are"
    behind = f"; {ahead} of {owner}'s jobs {are} ahead of it" if ahead else ""
    text = f"waiting for a free slot: {running} of {most} running{behind}"
    return Closed(Gate.SLOTS, text, {"ahead": ahead})


def of_turn(running: int, most: int, owner: str) -> Closed:
    """The owner has as many running jobs as the settings allow."""
    text = f"waiting for a free slot of {owner}: {running} of {most} running"
    return Closed(Gate.TURN, text)


def of_kept_slots(running: int, most: int, kept: int) -> Closed:
    """The slots that are left are for owners without a running job."""
    last = "the last one is" if kept == 1 else f"the last {kept} are"
    text = (
        f"waiting for a free slot: {running} of {most} running, and {last} kept for users without "
        "a running job"
    )
    return Closed(Gate.TURN, text, {"kept": kept})


def of_hold() -> Closed:
    """Its owner has to release it."""
    return Closed(Gate.HOLD, "held until it is released")


def of_time(until: str) -> Closed:
    """The earliest time for its start has not come."""
    return Closed(Gate.TIME, f"waiting until {until}", {"until": until})


def of_lock(lock: str) -> Closed:
    """Another job of the owner has the lock."""
    text = f"waiting for the lock {lock!r}, which another job has"
    return Closed(Gate.LOCK, text, {"lock": lock})


def of_resource(pool: str, needed: int, free: int, total: int, *, kept: bool) -> Closed:
    """Other jobs have the units, or a job that has waited longer has a claim on them."""
    details = {"pool": pool, "needed": needed, "free": free, "total": total}
    if needed > total:
        text = f"waiting for {needed} of {pool}, of which the server now has {total}"
    elif kept:
        text = f"waiting for {needed} of {pool}, kept for a job that has waited longer"
    else:
        text = f"waiting for {needed} of {pool}: {free} of {total} free"
    return Closed(Gate.RESOURCE, text, details)
