"""The threads that run requests, and the queue of requests from clients without a login."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Any

from worker_daemon.edge.shares import fair_queue

_log = logging.getLogger(__name__)

# Requests of connections without a login that run at the same time: from networks from which users
# have logged in, and the same number from all others. Each further one that runs delays the
# requests of users, because it holds the interpreter lock.
_STRANGERS = 1


class _Strangers:
    """Requests of connections without a login.

    The first request of a connection may be a login. The first requests and the further ones are
    taken alternately, so that a new client does not wait for connections that send one request
    after another without a login.
    """

    def __init__(self) -> None:
        self.running = 0
        self._first: fair_queue.FairQueue[Any] = fair_queue.FairQueue()
        self._further: fair_queue.FairQueue[Any] = fair_queue.FairQueue()
        self._further_next = False

    @property
    def waiting(self) -> bool:
        """Whether a request waits."""
        return bool(self._first or self._further)

    def add(self, task: Any) -> None:
        """Add a connection with a request."""
        (self._further if task.served else self._first).add(task.network, task)

    def take(self) -> Any:
        """Remove and return the next connection."""
        further = self._further if self._further_next or not self._first else None
        self._further_next = not self._further_next
        return (further or self._first).take()


class WorkerPool:
    """Worker threads. One is started when a request needs it and none is free, up to `limit`.

    A task is a connection with a request. A connection without a login is a stranger. Few requests
    of strangers run at the same time, and networks take turns. So hundreds of them can neither
    take all threads nor keep the interpreter lock from the requests of users. Strangers in networks
    from which users have logged in do not wait for other networks.

    waitress's own dispatcher waits at a condition, which takes three locks; a SimpleQueue takes
    one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: queue.SimpleQueue[tuple[Any, _Strangers | None] | None] = queue.SimpleQueue()
        self._of_thread = threading.local()  # `place`: the group of strangers of its task, or None
        self._lock = threading.Lock()  # guards the rest
        self._unfinished = 0  # tasks that were given to threads and have not ended
        self._threads: list[threading.Thread] = []
        self._strangers = {
            True: _Strangers(),
            False: _Strangers(),
        }  # by whether the network is known

    @property
    def count(self) -> int:
        """The number of threads."""
        return len(self._threads)

    def add_task(self, task: Any) -> None:
        """Run a task in a thread, as soon as one is free."""
        with self._lock:
            if task.known:
                self._start(task, None)
            else:
                strangers = self._strangers[task.from_known_network]
                strangers.add(task)
                self._start_strangers(strangers)

    def leave_place(self) -> None:
        """Let the next stranger run: this one has logged in, has ended, or waits for a while.

        Runs in the worker thread of that request. Calling it again changes nothing.
        """
        strangers = getattr(self._of_thread, "place", None)
        if strangers is not None:
            self._of_thread.place = None
            with self._lock:
                strangers.running -= 1
                self._start_strangers(strangers)

    def shutdown(self, timeout: float) -> None:
        """End each thread after its request, and wait for that at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        running = sum(thread.is_alive() for thread in self._threads)
        if running:
            _log.warning("%d requests are still running", running)

    def _start_strangers(self, strangers: _Strangers) -> None:
        while strangers.waiting and strangers.running < _STRANGERS:
            strangers.running += 1
            self._start(strangers.take(), strangers)

    def _start(self, task: Any, place: _Strangers | None) -> None:
        self._tasks.put((task, place))
        self._unfinished += 1
        if self._unfinished > len(self._threads) < self._limit:
            self._add_thread()

    def _add_thread(self) -> None:
        name = f"worker-task-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads on the machine; the next task tries again
            _log.error("cannot start a thread: %s", error)
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, self._of_thread.place = item
            try:
                task.service()
            except BaseException:  # noqa: BLE001  # the thread has more to do
                _log.exception("a request of %s failed", task.addr[0])
            with self._lock:
                self._unfinished -= 1
            self.leave_place()
