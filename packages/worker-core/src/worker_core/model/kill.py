"""KillRequest: a request to end a job, with its author, reason, signal and grace."""

from __future__ import annotations

import signal as signals_
from dataclasses import dataclass, replace

from worker_core.model import signals
from worker_core.model.errors import InvalidRequest


@dataclass(frozen=True)
class KillRequest:
    """One request to end a job. The same value goes from the API to the executor."""

    by: str | None = None
    """Who asks; None is recorded as "unknown"."""
    reason: str | None = None
    """Why, for the job's record."""
    signal: int | None = None
    """The signal that is sent first; None is the stop signal of the job's spec."""
    grace: float | None = None
    """Seconds from that signal to SIGKILL; None is the grace of the job's spec."""

    @classmethod
    def make(
        cls,
        *,
        by: str | None = None,
        signal: str | int | None = None,
        grace: float | None = None,
        now: bool = False,
        reason: str | None = None,
    ) -> KillRequest:
        """Make a request from what a user gives; `now` means SIGKILL at once.

        Raises InvalidRequest.
        """
        if grace is not None and not 0 <= grace < float("inf"):
            raise InvalidRequest("grace must be a number of seconds >= 0")
        signum = None if signal is None else signals.number(signal)
        return cls(by, reason, int(signals_.SIGKILL) if now else signum, grace)

    def followed_by(self, later: KillRequest, spec_grace: float) -> KillRequest:
        """Return one request with the effect of both, for the case that neither has arrived.

        Author and reason are those of the first request. The signal is SIGKILL if one of them has
        it, otherwise that of the later one. The grace is the shorter one.
        """
        hard = self.signal == signals_.SIGKILL
        grace = later.grace
        if self.grace is not None or grace is not None:
            first, second = (spec_grace if g is None else g for g in (self.grace, grace))
            grace = min(first, second)
        return replace(self, signal=self.signal if hard else later.signal, grace=grace)
