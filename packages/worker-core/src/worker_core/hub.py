"""Telling those who wait that a job has changed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker_core.job import Job


class News:
    """One listener; it is told that there is news, and reads it from the store."""

    def __init__(self) -> None:
        # Free while there is news. An Event has a second lock, which who waits and who tells want
        # at the same moment.
        self._silence = threading.Lock()
        self._silence.acquire()

    def tell(self) -> None:
        """Let `wait` return."""
        with contextlib.suppress(RuntimeError):  # it was told already
            self._silence.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait for news that came after the last call; False if the time is up before."""
        if timeout is not None and timeout <= 0:
            return False
        return self._silence.acquire(timeout=-1 if timeout is None else timeout)


class Hub:
    """Listeners by job id; those under None hear of every job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str | None, set[News]] = {}

    @contextmanager
    def listening(self, job_id: str | None) -> Iterator[News]:
        """Listen in this block. Read the state after it begins: then nothing is missed."""
        news = News()
        with self._lock:
            self._listeners.setdefault(job_id, set()).add(news)
        try:
            yield news
        finally:
            with self._lock:
                listeners = self._listeners[job_id]
                listeners.discard(news)
                if not listeners:
                    del self._listeners[job_id]

    def publish(self, job: Job) -> None:
        """Tell everybody who listens to this job."""
        with self._lock:
            told = [*self._listeners.get(job.id, ()), *self._listeners.get(None, ())]
        for news in told:
            news.tell()

    def tell_all(self) -> None:
        """Wake everybody, whatever they listen to: there will be no more news."""
        with self._lock:
            told = [news for listeners in self._listeners.values() for news in listeners]
        for news in told:
            news.tell()
