"""How much memory long bodies and long answers may take together."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator

from worker_daemon import problems

_SECONDS = 10.0  # that a request waits for its share


class Budget:
    """Bytes that are lent to requests; who finds none left waits in line."""

    def __init__(self, most: int, seconds: float = _SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._changed = threading.Condition()
        self._line: collections.deque[object] = collections.deque()
        self._lent = 0

    @contextlib.contextmanager
    def lent(
        self, size: int, waiting: Callable[[], contextlib.AbstractContextManager[object]]
    ) -> Iterator[None]:
        """Lend so many bytes in this block, or all there are to a request that needs more.

        `waiting` is entered while it waits. Raises Problem when nothing is left for too long.
        """
        size = min(size, self._most)
        if not self._take_at_once(size):
            with waiting():
                self._take(size)
        try:
            yield
        finally:
            with self._changed:
                self._lent -= size
                self._changed.notify_all()

    def _take_at_once(self, size: int) -> bool:
        with self._changed:
            fits = not self._line and self._lent + size <= self._most
            self._lent += size if fits else 0
            return fits

    def _take(self, size: int) -> None:
        me = object()
        with self._changed:
            self._line.append(me)
            try:
                first = self._changed.wait_for(
                    lambda: self._line[0] is me and self._lent + size <= self._most, self._seconds
                )
                if not first:
                    raise problems.Problem(
                        "server_busy",
                        "the server is at work on as many long requests as it has memory for; "
                        "try again soon",
                    )
                self._lent += size
            finally:
                self._line.remove(me)
                self._changed.notify_all()
