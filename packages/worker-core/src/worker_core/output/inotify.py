"""Wakes threads that wait for a file to grow: one inotify descriptor and one thread serve them all.

One inotify descriptor for each waiting thread would exceed the kernel's limit of 128 per user.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker_core.linux import libc
from worker_core.output import spool

log = logging.getLogger(__name__)

# Waking hundreds of threads at once starves other requests of the interpreter lock (GIL): with 500
# followers of one job, a status request took 220 ms. It takes 20 ms if they are woken in lots.
_AT_ONCE = 4
_PAUSE = 0.0005  # seconds between two lots

_UNWATCHED_SECONDS = 0.5  # the longest wait for a file that the kernel does not watch


class Watch:
    """A file that threads wait for: each reads `changes`, then the file, and then calls `wait`."""

    def __init__(self) -> None:
        self.changes = 0
        self.touches = 0  # how many of the changes came from `touch`, not from the kernel
        self.users = 0
        self.number: int | None = None  # the kernel's, once the file is watched
        self._condition = threading.Condition()
        self._last = (-1, 0, b"")  # value of `changes`, offset, and the bytes read then

    def change(self, *, touched: bool) -> None:
        """Count a change; `wake` then wakes the waiting threads."""
        with self._condition:
            self.changes += 1
            self.touches += touched

    def wake(self) -> None:
        """Wake all waiting threads, a few at a time."""
        for woken in range(0, self.users, _AT_ONCE):
            if woken:
                time.sleep(_PAUSE)
            with self._condition:  # the longest waiting thread is woken first
                self._condition.notify(_AT_ONCE)

    def read(self, offset: int, read: Callable[[int], tuple[int, bytes]]) -> tuple[int, bytes]:
        """Return a chunk and its offset: what `read(offset)` returns, or has returned to another
        reader since the last change.

        Not for a file that is final: the kernel may not have reported its last bytes yet.
        """
        changes = self.changes
        count, begin, data = self._last
        end = begin + len(data)
        if count == changes and begin <= offset <= end - (len(data) == spool.CHUNK):
            return offset, data[offset - begin :]
        begin, data = read(offset)
        if self.number is not None:
            self._last = (changes, begin, data)
        return begin, data

    def wait(self, seen: int, timeout: float) -> bool:
        """Wait until `changes` differs from `seen`; return False after `timeout` seconds."""
        if self.number is None:
            timeout = min(timeout, _UNWATCHED_SECONDS)
        with self._condition:
            return self._condition.wait_for(lambda: self.changes != seen, timeout)


class Watches:
    """The watched files, by path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_path: dict[str, Watch] = {}
        self._by_number: dict[int, Watch] = {}
        self._inotify: int | None = None
        self._closed = False

    @contextmanager
    def on(self, path: str) -> Iterator[Watch]:
        """Watch a file during this block; a file that does not exist yet needs a `touch`."""
        with self._lock:
            watch = self._by_path.setdefault(path, Watch())
            watch.users += 1
        try:
            self.arm(path)
            yield watch
        finally:
            self._leave(path, watch)

    def arm(self, path: str) -> None:
        """Ask the kernel to report the growth of a watched file, if it exists."""
        with self._lock:
            watch = self._by_path.get(path)
            if watch is None or watch.number is not None or self._closed:
                return
            try:
                watch.number = libc.inotify_add(self._descriptor(), path, libc.IN_MODIFY)
                self._by_number[watch.number] = watch
            except FileNotFoundError:
                return
            except OSError as error:  # no watches left: `wait` has a shorter timeout instead
                log.warning("cannot watch %s: %s", path, error)

    def touch(self, path: str) -> None:
        """Wake the threads that wait for a file: it was created, or it is final now."""
        with self._lock:
            watch = self._by_path.get(path)
        if watch is not None:
            self.arm(path)
            watch.change(touched=True)
            if watch.users > _AT_ONCE:  # do not let the caller wait for all of them
                threading.Thread(target=watch.wake, name="worker-wake", daemon=True).start()
            else:
                watch.wake()

    def close(self) -> None:
        """Stop the thread, and wake every waiting thread once."""
        with self._lock:
            self._closed = True
            if self._inotify is not None:  # removing a watch is an event, which wakes the thread
                with contextlib.suppress(OSError):
                    number = libc.inotify_add(self._inotify, "/", libc.IN_MODIFY)
                    libc.inotify_remove(self._inotify, number)
            waiting = list(self._by_path.values())
        for watch in waiting:
            watch.change(touched=True)
            watch.wake()

    def _leave(self, path: str, watch: Watch) -> None:
        with self._lock:
            watch.users -= 1
            if watch.users:
                return
            del self._by_path[path]
            if watch.number is not None and not self._closed:
                del self._by_number[watch.number]
                with contextlib.suppress(OSError):
                    libc.inotify_remove(self._descriptor(), watch.number)

    def _descriptor(self) -> int:
        if self._inotify is None:
            self._inotify = libc.inotify()
            threading.Thread(
                target=self._read, args=(self._inotify,), name="worker-watch", daemon=True
            ).start()
        return self._inotify

    def _read(self, descriptor: int) -> None:
        """Run by a thread of its own, until `close`."""
        while not self._closed:
            data = os.read(descriptor, 1 << 16)
            numbers = set(libc.inotify_watches(data))
            with self._lock:
                # -1 means that the kernel dropped events: then any file may have changed.
                changed = self._by_number.keys() if -1 in numbers else numbers
                watches = [self._by_number[each] for each in changed if each in self._by_number]
            for watch in watches:
                watch.change(touched=False)
            for watch in watches:
                watch.wake()
        os.close(descriptor)
