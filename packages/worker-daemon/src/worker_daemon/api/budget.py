"""Limits on the memory and time that long bodies and long answers take together."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from worker_daemon import problems

_SECONDS = 10.0  # for which a request waits for its share
_LONGEST_REST = 1.0  # seconds

Waiting = Callable[[], contextlib.AbstractContextManager[object]]


class Budget:
    """Lends bytes to requests. A request waits while there are not enough left.

    The next request to get some is the oldest one of the user who has borrowed least, so that no
    user can keep the others out.
    """

    def __init__(
        self,
        most: int,
        seconds: float = _SECONDS,
        *,
        clock: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clock` returns the CPU time of the calling thread."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._changed = threading.Condition()  # guards what follows
        self._line: dict[object, str] = {}  # the waiting requests in order, and their users
        self._lent = 0
        self._lent_to: Counter[str] = Counter()

    @contextlib.contextmanager
    def lent(self, size: int, user: str, waiting: Waiting) -> Iterator[None]:
        """Lend `size` bytes during this block. A request that needs more than there are gets all.

        `waiting` is entered while the request waits. If others wait when the block ends, the thread
        sleeps for as long as the block took CPU time: the block may have held the interpreter lock
        for long, and short requests need it, too.

        Raises Problem if the bytes are not available in time.
        """
        size = min(size, self._most)
        if not self._take_at_once(size, user):
            with waiting():
                self._take(size, user)
        begun = self._clock()
        try:
            yield
            if self._line:
                self._sleep(min(self._clock() - begun, _LONGEST_REST))
        finally:
            with self._changed:
                self._lent -= size
                self._lent_to[user] -= size
                if not self._lent_to[user]:
                    del self._lent_to[user]
                self._changed.notify_all()

    def _take_at_once(self, size: int, user: str) -> bool:
        with self._changed:
            if self._line or self._lent + size > self._most:
                return False
            self._note(size, user)
            return True

    def _take(self, size: int, user: str) -> None:
        me = object()
        with self._changed:
            self._line[me] = user
            try:
                if not self._changed.wait_for(lambda: self._may_go(me, size), self._seconds):
                    raise problems.Problem(
                        "server_busy",
                        "the server has no memory left for another long request at present; retry"
                        " shortly",
                    )
                self._note(size, user)
            finally:
                del self._line[me]
                self._changed.notify_all()

    def _may_go(self, me: object, size: int) -> bool:
        first = min(self._line, key=lambda each: self._lent_to[self._line[each]])
        return first is me and self._lent + size <= self._most

    def _note(self, size: int, user: str) -> None:
        self._lent += size
        self._lent_to[user] += size
