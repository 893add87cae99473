"""Wakes the threads that wait for a change of a job, and no others."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from worker_core.model.job import Job

# A change wakes up to this many subscribers directly. A larger group is woken by a separate
# thread, this many at a time: hundreds of threads that want the interpreter lock (GIL) at the same
# moment would starve all other requests.
_AT_ONCE = 4
_PAUSE_OF_JOB = 0.0005  # seconds between two lots: a thread that waits for a job's end is soon done
_PAUSE_OF_OWNER = 0.004  # a thread that reads an owner's events comes back for each event

Key = tuple[str, str]  # ("job", job id) or ("owner", owner)


class Subscription:
    """A flag that one thread waits for. It carries no data: the thread reads the store itself."""

    def __init__(self) -> None:
        # Unlocked while a notification is pending. threading.Event would add a second, contended
        # lock.
        self._silence = threading.Lock()
        self._silence.acquire()

    def notify(self) -> None:
        """Make `wait` return; several calls before it returns count as one."""
        with contextlib.suppress(RuntimeError):  # a notification is pending already
            self._silence.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait for a notification since the last call; return False after `timeout` seconds."""
        if timeout is not None and timeout <= 0:
            return False
        return self._silence.acquire(timeout=-1 if timeout is None else timeout)


class Cancellation:
    """Ends waits early, from any thread. Once requested, it ends later waits at once."""

    def __init__(self) -> None:
        self.requested = False
        self._lock = threading.Lock()
        self._waits: set[Subscription] = set()

    def request(self) -> None:
        """End every wait that uses this."""
        with self._lock:
            self.requested = True
            waits = list(self._waits)
        for subscription in waits:
            subscription.notify()

    @contextmanager
    def ending(self, subscription: Subscription) -> Iterator[None]:
        """Let `request` wake a subscription for the time of this block."""
        with self._lock:
            self._waits.add(subscription)
        try:
            yield
        finally:
            with self._lock:
                self._waits.discard(subscription)


class _Group:
    """The subscriptions to one job or one owner, and how many changes they were notified of."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription] = set()
        self.changes = 0


class Notifier:
    """The subscriptions by job and by owner. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._groups: dict[Key, _Group] = {}
        self._crowded: dict[Key, None] = {}  # large groups that the thread has to wake, in order
        self._thread: threading.Thread | None = None
        self._work_to_do = Subscription()  # for that thread
        self._closed = False

    def job_changes(self, job_id: str) -> AbstractContextManager[Subscription]:
        """Subscribe to one job for the time of this block.

        Read the job's state inside the block: then no change is missed.
        """
        return self._in_group(("job", job_id))

    def owner_changes(self, owner: str) -> AbstractContextManager[Subscription]:
        """Subscribe to all jobs of an owner for the time of this block."""
        return self._in_group(("owner", owner))

    def change_count(self, owner: str) -> int:
        """Return how many changes the present subscribers to an owner were notified of."""
        group = self._groups.get(("owner", owner))
        return 0 if group is None else group.changes

    def publish(self, job: Job) -> None:
        """Notify the subscribers to this job and those to its owner."""
        if self._groups:
            for key in (("job", job.id), ("owner", job.owner)):
                if key in self._groups:
                    self._notify(key)

    def close(self) -> None:
        """Notify every subscriber once; there will be no more changes."""
        with self._lock:
            self._closed = True
            pending = [each for group in self._groups.values() for each in group.subscriptions]
        self._work_to_do.notify()
        for subscription in pending:
            subscription.notify()

    @contextmanager
    def _in_group(self, key: Key) -> Iterator[Subscription]:
        subscription = Subscription()
        with self._lock:
            self._groups.setdefault(key, _Group()).subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                group = self._groups[key]
                group.subscriptions.discard(subscription)
                if not group.subscriptions:
                    del self._groups[key]

    def _notify(self, key: Key) -> None:
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                return
            group.changes += 1
            if len(group.subscriptions) > _AT_ONCE and self._has_thread():
                self._crowded[key] = None
                pending = []
            else:
                pending = list(group.subscriptions)
        for subscription in pending:
            subscription.notify()
        if not pending:
            self._work_to_do.notify()

    # -- large groups: a thread of its own ---------------------------------------------------------

    def _has_thread(self) -> bool:
        """Return whether the thread runs; it is started when it is first needed."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="worker-notifier", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the limit on threads is reached: the caller wakes the group
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while self._work_to_do.wait(None) and not self._closed:
            while (key := self._next()) is not None:
                self._notify_crowd(key)

    def _next(self) -> Key | None:
        with self._lock:
            key = next(iter(self._crowded), None)
            if key is not None:
                del self._crowded[key]
            return key

    def _notify_crowd(self, key: Key) -> None:
        """Wake a large group, a few at a time; changes that come meanwhile wake it once more."""
        with self._lock:
            group = self._groups.get(key)
            pending = [] if group is None else list(group.subscriptions)
        pause = _PAUSE_OF_JOB if key[0] == "job" else _PAUSE_OF_OWNER
        for at in range(0, len(pending), _AT_ONCE):
            for subscription in pending[at : at + _AT_ONCE]:
                subscription.notify()
            time.sleep(pause)
