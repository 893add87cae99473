"""A clock for tests of waiting and retrying: its time passes only in `sleep`."""

from __future__ import annotations

from collections.abc import Callable

from worker_cli import Client


class Clock:
    """A clock, for one client if there is one already; `slept` contains each pause."""

    def __init__(self, client: Client | None = None) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        """Called in each pause."""
        if client:
            client._transport.clock = lambda: self.now
            client._transport.sleep = self.sleep

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.meanwhile()
