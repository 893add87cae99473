"""Time that passes only when somebody sleeps, for what waits and tries again."""

from __future__ import annotations

from worker_cli import Client


class Clock:
    """A clock for one client; `slept` has each pause."""

    def __init__(self, client: Client) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        client._transport.clock = lambda: self.now
        client._transport.sleep = self._sleep

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
