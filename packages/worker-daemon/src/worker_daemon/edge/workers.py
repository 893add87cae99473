"""The threads that run requests, and the line in which requests of strangers wait for them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Any

from worker_daemon.edge import fair_queue

_log = logging.getLogger(__name__)

_STRANGERS = 4  # requests at work on connections that have not logged in


class Threads:
    """Task threads, made when one is needed and none is free, up to `limit`.

    A task is a connection with a request. Those that have not logged in are strangers: few of them
    are at work at a time, each network in turn, so that hundreds of them neither take all threads
    nor keep the interpreter lock from the requests of users.

    waitress's own wait at a condition, which is three waits for locks; a SimpleQueue is one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: queue.SimpleQueue[tuple[Any, bool] | None] = queue.SimpleQueue()
        self._mine = threading.local()  # `place`: whether a task thread has one of the strangers'
        self._lock = threading.Lock()  # guards the rest
        self._open = 0  # tasks that were given out and have not ended
        self._threads: list[threading.Thread] = []
        self._line: fair_queue.FairQueue[Any] = fair_queue.FairQueue()  # strangers who wait
        self._strangers = 0  # who are at work

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def add_task(self, job: Any) -> None:
        """Give a request to a thread; with all of them busy it waits for its turn."""
        with self._lock:
            if job.known:
                self._give_out(job, stranger=False)
            else:
                self._line.add(job.network, job)
                self._let_strangers_in()

    def leave_place(self) -> None:
        """Let the next stranger in: this one has logged in, has ended, or waits for a while.

        Runs in the task thread of that request; more than one call changes nothing.
        """
        if getattr(self._mine, "place", False):
            self._mine.place = False
            with self._lock:
                self._strangers -= 1
                self._let_strangers_in()

    def shutdown(self, timeout: float) -> None:
        """End the threads, each after its request; wait for that at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        running = sum(thread.is_alive() for thread in self._threads)
        if running:
            _log.warning("%d requests still run", running)

    def _let_strangers_in(self) -> None:
        while self._line and self._strangers < _STRANGERS:
            self._strangers += 1
            self._give_out(self._line.take(), stranger=True)

    def _give_out(self, job: Any, *, stranger: bool) -> None:
        self._tasks.put((job, stranger))
        self._open += 1
        if self._open > len(self._threads) < self._limit:
            self._add_thread()

    def _add_thread(self) -> None:
        name = f"worker-task-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the machine is short of them; the next task tries again
            _log.error("cannot start a thread: %s", error)
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            job, self._mine.place = task
            try:
                job.service()
            except BaseException:  # noqa: BLE001  # the thread has more to do
                _log.exception("a request of %s failed", job.addr[0])
            with self._lock:
                self._open -= 1
            self.leave_place()
