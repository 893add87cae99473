"""Compares the store with the executor after a restart of either: findings and what follows.

    what the store says    what the executor says     finding      what follows
    queued                 (is not asked)             -            it waits in its place
    running                running                    FOLLOW       its pid is recorded
    stopping               running                    KILL_AGAIN   the kill is sent again
    stopping               running, and got the kill  FOLLOW       nothing: once is enough
    stopping               running, and got only an   KILL_AGAIN   the kill is sent again
                           earlier, gentler kill
    running or stopping    ended                      ENDED        its end is recorded
    running, this boot     never started              START        the start is sent again
    stopping, this boot    never started              CANCEL       killed; it never ran
    either, another boot   never started              LOSE         lost: it may have run before

Repeating any of these steps changes nothing: an executor starts an id once, and the state table
ignores what is recorded already. "Never started" is certain within one boot, because the claim of a
job is a file that outlives every process. A crash of the machine may have lost that file.
"""

from __future__ import annotations

import enum
import signal
from typing import Any

from worker_core.model.state import State


class Finding(enum.Enum):
    """What the comparison of one job shows."""

    FOLLOW = enum.auto()
    KILL_AGAIN = enum.auto()
    ENDED = enum.auto()
    START = enum.auto()
    CANCEL = enum.auto()
    LOSE = enum.auto()


def compare(
    state: State,
    known: dict[str, Any],
    *,
    same_boot: bool,
    signum: int = signal.SIGTERM,
    grace: float = 0.0,
) -> Finding:
    """Return the finding for a job that is running or stopping in the store.

    `signum` and `grace` are what the kill in the store of a stopping job demands.
    """
    if "exit" in known:
        return Finding.ENDED
    stopping = state is State.STOPPING
    if "running" in known:
        arrived = _has_arrived(known, signum, grace)
        return Finding.KILL_AGAIN if stopping and not arrived else Finding.FOLLOW
    if not same_boot:
        return Finding.LOSE
    return Finding.CANCEL if stopping else Finding.START


def _has_arrived(known: dict[str, Any], signum: int, grace: float) -> bool:
    """Return whether a kill has reached the executor, as far as its answer shows.

    A kill with a shorter grace and the same signal has not arrived if SIGKILL is due later than
    that grace allows. An executor of 0.1.0 reports only that some kill has arrived.
    """
    if not known.get("stopping"):
        return False
    signalled = known.get("signalled")
    if signalled is None or signal.SIGKILL in signalled:
        return True
    return signum in signalled and known["kill_in"] <= grace
