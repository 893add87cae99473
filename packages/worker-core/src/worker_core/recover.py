"""The store against the executor, after either of them was away: findings, and what each asks for.

    what the store says    what the executor says     finding      what follows
    queued                 (is not asked)             -            it waits in its place
    running                running                    FOLLOW       its pid is recorded
    stopping               running                    KILL_AGAIN   the kill is sent again
    stopping               running, and asked to end  FOLLOW       nothing: once is enough
    running or stopping    ended                      ENDED        its end is recorded
    running, this boot     never started              START        the start is sent again
    stopping, this boot    never started              CANCEL       killed; it never ran
    either, another boot   never started              LOSE         lost: it may have run before

Repeating any of it changes nothing: an executor starts an id once, and the state table ignores
what it knows already. "Never started" is certain within one boot, since the claim of a job is a
file that outlives every process; a crash of the machine may have taken it.
"""

from __future__ import annotations

import enum
from typing import Any

from worker_core.state import State


class Finding(enum.Enum):
    """What the comparison of one job shows."""

    FOLLOW = enum.auto()
    KILL_AGAIN = enum.auto()
    ENDED = enum.auto()
    START = enum.auto()
    CANCEL = enum.auto()
    LOSE = enum.auto()


def compare(state: State, known: dict[str, Any], *, same_boot: bool) -> Finding:
    """Return the finding for a job that is running or stopping in the store."""
    if "exit" in known:
        return Finding.ENDED
    stopping = state is State.STOPPING
    if "running" in known:
        return Finding.KILL_AGAIN if stopping and not known.get("stopping") else Finding.FOLLOW
    if not same_boot:
        return Finding.LOSE
    return Finding.CANCEL if stopping else Finding.START
