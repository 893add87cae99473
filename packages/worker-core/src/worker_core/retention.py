"""Removing finished jobs by age, count and bytes, as the settings say."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger(__name__)

_INTERVAL = 60.0  # seconds


class Limits(Protocol):
    """The part of the engine's settings that says what is kept; None keeps everything."""

    @property
    def keep_age(self) -> float | None: ...
    @property
    def keep_count(self) -> int | None: ...
    @property
    def keep_bytes(self) -> int | None: ...


@dataclass(frozen=True)
class Finished:
    """A finished job as retention sees it; `ended_at` is Unix seconds."""

    id: str
    ended_at: float
    output_bytes: int


def expired(oldest_first: Sequence[Finished], limits: Limits, now: float) -> list[str]:
    """Return the ids to remove: the oldest, until what is left is within every limit."""
    count, size = len(oldest_first), sum(each.output_bytes for each in oldest_first)
    gone = []
    for each in oldest_first:
        too_old = limits.keep_age is not None and each.ended_at < now - limits.keep_age
        too_many = limits.keep_count is not None and count > limits.keep_count
        too_large = limits.keep_bytes is not None and size > limits.keep_bytes
        if not (too_old or too_many or too_large):
            break
        gone.append(each.id)
        count, size = count - 1, size - each.output_bytes
    return gone


class Retention:
    """Looks from time to time, in a thread of its own."""

    def __init__(self, run: Callable[[], None]) -> None:
        """Call `run` now and every minute until closed."""
        self._run = run
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker-retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a run that is under way is finished first."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                self._run()
            except Exception:
                log.exception("retention failed; trying again later")
            if self._closing.wait(_INTERVAL):
                return
