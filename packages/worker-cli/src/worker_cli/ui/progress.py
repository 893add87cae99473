"""A line on the terminal that shows the progress of long work; nothing when not on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from worker_cli.ui import humanize, terminal

_EVERY_SECONDS = 0.1
_BAR_WIDTH = 24


class Line:
    """The line. Each `show` replaces it, and it is removed at the end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._can_overwrite = terminal.can_overwrite(sys.stderr)
        self._next = clock() + _EVERY_SECONDS  # work that is done sooner shows nothing
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove the line, so that something else can be written in its place."""
        if self._shown:
            self._write("")

    def show(self, text: Callable[[], str]) -> None:
        """Show a text, but not more often than a person can read."""
        now = self._clock()
        if now >= self._next:
            self._next = now + _EVERY_SECONDS
            self.announce(text)

    def announce(self, text: Callable[[], str]) -> None:
        """Show a text that will stay for a while, at once."""
        if self._can_overwrite:
            self._write(text())
        elif terminal.is_terminal(sys.stderr):  # one that cannot replace a line
            terminal.note(text())

    def _write(self, text: str) -> None:
        self._shown = bool(text)
        terminal.overwrite(humanize.truncate(text, (terminal.width(sys.stderr) or 80) - 1))


def transfer(done: int, total: int | None, seconds: float) -> str:
    """Return the text for a transfer of bytes: how many of how many, and how fast."""
    rate = f"{humanize.size(done / seconds)}/s" if seconds > 0 else ""
    if not total or done > total:
        return f"{humanize.size(done)}  {rate}"
    filled = _BAR_WIDTH * done // total
    bar = "#" * filled + "." * (_BAR_WIDTH - filled)
    return (
        f"{100 * done // total:3}% [{bar}] {humanize.size(done)} of {humanize.size(total)}  {rate}"
    )
