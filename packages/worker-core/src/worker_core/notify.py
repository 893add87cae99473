"""Waking the threads that wait for a change of a job, and nobody else."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker_core.model.job import Job

# A change wakes up to so many listeners at once. Of more, so many are woken at a time by a thread
# of their own: hundreds that want the interpreter lock at the same moment keep it from all others.
_AT_ONCE = 4
_PAUSE_OF_JOB = 0.0005  # seconds between two lots: whoever waits for a job is done with it soon
_PAUSE_OF_OWNER = 0.004  # whoever reads the events of an owner comes back for each of them

Key = tuple[str, str]  # "job" and its id, or "owner" and a name


class News:
    """One listener: it is woken when there is news, and reads the news from the store."""

    def __init__(self) -> None:
        # Unlocked while there is news. threading.Event would add a second, contended lock.
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


class _Group:
    """The listeners of one job or of one owner, and how many changes they were told of."""

    def __init__(self) -> None:
        self.listeners: set[News] = set()
        self.changes = 0


class Hub:
    """The listeners by job and by owner. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._groups: dict[Key, _Group] = {}
        self._crowded: dict[Key, None] = {}  # large groups that are still to be told, in order
        self._thread: threading.Thread | None = None
        self._call = News()  # for that thread
        self._closed = False

    @contextmanager
    def listening(self, job_id: str) -> Iterator[News]:
        """Listen to one job in this block. Read its state after the block has begun, so that no
        change is missed."""
        with self._in_group(("job", job_id)) as news:
            yield news

    @contextmanager
    def listening_to_owner(self, owner: str) -> Iterator[News]:
        """Listen to all jobs of an owner in this block."""
        with self._in_group(("owner", owner)) as news:
            yield news

    def changes(self, owner: str) -> int:
        """Return how many changes the present listeners of an owner were told of."""
        group = self._groups.get(("owner", owner))
        return 0 if group is None else group.changes

    def publish(self, job: Job) -> None:
        """Wake the listeners of this job and those of its owner."""
        if self._groups:
            for key in (("job", job.id), ("owner", job.owner)):
                self._tell(key)

    def tell_all(self) -> None:
        """Wake everybody, whatever they listen to: there will be no more news."""
        with self._lock:
            self._closed = True
            told = [news for group in self._groups.values() for news in group.listeners]
        self._call.tell()
        for news in told:
            news.tell()

    @contextmanager
    def _in_group(self, key: Key) -> Iterator[News]:
        news = News()
        with self._lock:
            self._groups.setdefault(key, _Group()).listeners.add(news)
        try:
            yield news
        finally:
            with self._lock:
                group = self._groups[key]
                group.listeners.discard(news)
                if not group.listeners:
                    del self._groups[key]

    def _tell(self, key: Key) -> None:
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                return
            group.changes += 1
            if len(group.listeners) > _AT_ONCE and self._has_thread():
                self._crowded[key] = None
                told = []
            else:
                told = list(group.listeners)
        for news in told:
            news.tell()
        if not told:
            self._call.tell()

    # -- large groups: a thread of its own ---------------------------------------------------------

    def _has_thread(self) -> bool:
        """Return whether there is the thread; it is started when it is first needed."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="worker-hub", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the machine is short of threads: the caller wakes everybody
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while self._call.wait(None) and not self._closed:
            while (key := self._next()) is not None:
                self._tell_crowd(key)

    def _next(self) -> Key | None:
        with self._lock:
            key = next(iter(self._crowded), None)
            if key is not None:
                del self._crowded[key]
            return key

    def _tell_crowd(self, key: Key) -> None:
        """Wake a large group, a few at a time; changes that come meanwhile wake it once more."""
        with self._lock:
            group = self._groups.get(key)
            told = [] if group is None else list(group.listeners)
        pause = _PAUSE_OF_JOB if key[0] == "job" else _PAUSE_OF_OWNER
        for at in range(0, len(told), _AT_ONCE):
            for news in told[at : at + _AT_ONCE]:
                news.tell()
            time.sleep(pause)
