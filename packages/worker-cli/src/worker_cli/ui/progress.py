"""One line on a person's terminal that says how far long work has come; nothing anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from worker_cli.ui import humanize, terminal

_EVERY_SECONDS = 0.1
_BAR = 24


class Line:
    """The line. It is written over by each `show` and gone at the end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wanted = terminal.can_overwrite(sys.stderr)
        self._next = clock() + _EVERY_SECONDS  # what is done sooner shows nothing
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
        """Take the line away, so that something else can be written in its place."""
        if self._shown:
            self._write("")

    def show(self, text: Callable[[], str]) -> None:
        """Show a text, but not more often than a person can read."""
        now = self._clock()
        if now >= self._next:
            self._next = now + _EVERY_SECONDS
            self.announce(text)

    def announce(self, text: Callable[[], str]) -> None:
        """Show a text in any case, because it will stay for a while."""
        if self._wanted:
            self._write(text())
        elif terminal.person(sys.stderr):  # one that cannot take a line back
            terminal.note(text())

    def _write(self, text: str) -> None:
        self._shown = bool(text)
        terminal.overwrite(humanize.cut(text, (terminal.width(sys.stderr) or 80) - 1))


def transfer(done: int, total: int | None, seconds: float) -> str:
    """Return the line for bytes on their way: how many of how many, and how fast."""
    rate = f"{humanize.size(done / seconds)}/s" if seconds > 0 else ""
    if not total or done > total:
        return f"{humanize.size(done)}  {rate}"
    filled = _BAR * done // total
    bar = "#" * filled + "." * (_BAR - filled)
    return (
        f"{100 * done // total:3}% [{bar}] {humanize.size(done)} of {humanize.size(total)}  {rate}"
    )
