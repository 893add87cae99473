"""Group commit: the writer thread runs all pending writes in one transaction, with one commit.

    callers                  queue           writer thread
    write(a) ───────────────▶ a
    write(b) ───────────────▶ a b
    a.result() waits          │
    b.result() waits          └ takes all ──▶ begin; a; b; commit      one flush of the disk
    post(c)  ───────────────▶ c               then_a; then_b           in the order of the queue
    a and b return ◀───────────────────────── wake a, b
                              └ takes all ──▶ begin; c; commit
                                              after an error: each in a transaction of its own

A caller that asks for the result while no commit runs and no other write is pending runs its write
in its own thread, which saves two changes of threads. It never runs the writes of others.

This module does not depend on SQL or on jobs: it needs only the methods of `Transactions`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

from worker_core.model.errors import EngineClosed, StoreUnavailable, WorkerError

log = logging.getLogger(__name__)

T = TypeVar("T")
C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)

_RETRY_SECONDS = 0.2
_FRAMES = 200  # that a transaction and what follows it may need below the limit on recursion


class Transactions(Protocol[C_co]):
    """What the writer thread needs of a database; any method may raise one of `failures`."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """Errors of the disk or the database: the same write may succeed later."""

    def begin(self) -> C_co:
        """Begin a transaction; return what each write is called with."""

    def commit(self) -> None:
        """Commit the transaction; after this its writes are durable."""

    def roll_back(self) -> None:
        """Undo the transaction, if there is one."""

    def is_full(self, error: Exception) -> bool:
        """Return whether an error means that the disk is full."""

    def describe(self, error: Exception) -> str:
        """Return an error as a sentence for people, with the cure where one is known."""


class PendingWrite(Generic[T]):
    """One write that was asked for, and later its result.

    A write with `must_succeed` has no caller that waits: it is tried again until it succeeds. An
    `urgent` one may use the disk space that is reserved for it.
    """

    def __init__(
        self,
        run: Callable[[Any], T],
        then: Callable[[T], None] | None,
        *,
        ask: Callable[[PendingWrite[T]], None] | None = None,
        must_succeed: bool = False,
        urgent: bool = False,
    ) -> None:
        """`ask` is called once, before anything waits for the write."""
        self.run = run
        self.then = then
        self.must_succeed = must_succeed
        self.urgent = urgent
        self._ask = ask
        self._value: T | None = None
        self._error: Exception | None = None
        # Locked until it is done. threading.Event would add a second lock and a condition.
        self._pending = threading.Lock()
        self._pending.acquire()

    def result(self) -> T:
        """Wait until it is done; return what it returned, or raise what it raised."""
        if self._ask is not None:
            ask, self._ask = self._ask, None
            ask(self)
        with self._pending:  # released again for the next call
            pass
        if self._error is not None:
            raise self._error
        return cast("T", self._value)

    def wait(self, seconds: float) -> None:
        """Wait until it is done, at most so long; only for a write `in_writer`."""
        if self._pending.acquire(timeout=seconds):
            self._pending.release()

    def fail(self, error: Exception) -> None:
        """Have `result` raise this error."""
        self._error = error

    def succeed(self, value: T) -> None:
        """Call `then`, and have `result` return the value."""
        try:
            if self.then is not None:
                self.then(value)
        except Exception:
            log.exception("what follows a write failed")
        self._value = value

    def wake(self) -> None:
        """Let `result` return."""
        self._pending.release()


class GroupCommit(Generic[C]):
    """The queue and its writer thread. All methods may be called from any thread."""

    def __init__(
        self, transactions: Transactions[C], *, on_full: Callable[[], None] = lambda: None
    ) -> None:
        """Start the thread; `on_full` is called when the disk has no space for an urgent write.

        Raises RuntimeError if no thread can be started.
        """
        self._transactions = transactions
        self._on_full = on_full
        self._lock = threading.Lock()  # guards the next three
        self._pending: list[PendingWrite[Any]] = []
        self._woken = False
        self._closed = False
        self.fault: str | None = None
        """Why the last transaction failed; None if it succeeded."""
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()  # for the writer thread
        self._committing = threading.Lock()  # held while a transaction and what follows it run
        self._failed: list[PendingWrite[Any]] = []  # to be tried again; guarded by _committing
        self._thread = threading.Thread(target=self._work, name="worker-store", daemon=True)
        self._thread.start()

    def write(
        self,
        run: Callable[[C], T],
        then: Callable[[T], None] | None = None,
        *,
        in_writer: bool = False,
    ) -> PendingWrite[T]:
        """Have `run` called in a transaction; wait for it with `result` of what is returned.

        `run` may be called more than once, in a new transaction each time, and raises WorkerError
        only before it writes. `then` is called with the result, after the commit, in the order of
        the writes and before `result` returns, by the writer thread or by `result`; it may call
        `post`, and must not wait for a write. With `in_writer` the writer thread does it in any
        case, and does it even if `result` is never called.
        """
        may_run = not in_writer and _may_commit()
        write = PendingWrite(run, then, ask=self._run_or_wake if may_run else None)
        if not self._put([write], wake=not may_run):
            raise EngineClosed("the engine was closed")
        return write

    def post(
        self,
        *writes: tuple[Callable[[C], Any], Callable[[Any], None] | None],
        urgent: bool = False,
    ) -> None:
        """Queue writes that are tried again until they succeed. The caller does not wait.

        After `close` they are dropped. So the same facts must be on disk in another form, too.
        """
        self._put(
            [PendingWrite(run, then, must_succeed=True, urgent=urgent) for run, then in writes],
            wake=True,
        )

    def close(self) -> None:
        """Try each pending write once more, and end the thread."""
        with self._lock:
            self._closed = True
            self._wake()
        self._thread.join()

    def _put(self, writes: list[PendingWrite[Any]], *, wake: bool) -> bool:
        with self._lock:
            if not self._closed:
                self._pending += writes
                if wake:
                    self._wake()
            return not self._closed

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._wakes.put(None)

    def _run_or_wake(self, write: PendingWrite[Any]) -> None:
        """Run a write here if nothing else is pending; otherwise have the writer thread do it."""
        if self._committing.acquire(blocking=False):
            try:
                with self._lock:
                    alone = self._pending == [write] and not self._failed
                    if alone:
                        self._pending = []
                if alone:
                    self._commit([write])
                    write.wake()
                    return
            finally:
                self._committing.release()
        with self._lock:
            self._wake()

    # -- the writer thread -------------------------------------------------------------------------

    def _work(self) -> None:
        closing = False
        while not closing:
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=_RETRY_SECONDS if self._failed else None)
            with self._committing:
                with self._lock:
                    writes, self._pending = self._pending, []
                    self._woken, closing = False, self._closed
                self._failed = self._commit(self._failed + writes)
                for write in writes:
                    write.wake()
        if self._failed:  # the next start finds the same in the directories of the jobs
            log.error("%d writes were not stored: %s", len(self._failed), self.fault)

    # -- whichever thread holds `_committing` ------------------------------------------------------

    def _commit(self, writes: list[PendingWrite[Any]]) -> list[PendingWrite[Any]]:
        """Commit writes; return those that must be tried again."""
        if not writes or self._transact(writes) is None:
            return []
        # Either one write is at fault, or the disk: so each gets its own transaction. When a write
        # that must succeed fails, the later ones that must succeed wait, to keep their order.
        failed: list[PendingWrite[Any]] = []
        full = False
        for write in writes:
            if write.must_succeed and failed:
                failed.append(write)
                continue
            error = self._transact([write])
            if error is None:
                continue
            if not write.must_succeed:
                why = self._transactions.describe(error)
                write.fail(StoreUnavailable(f"cannot store: {why}"))
            elif isinstance(error, self._transactions.failures):
                full = full or self._transactions.is_full(error)
                failed.append(write)
        if full and any(write.urgent for write in failed):
            self._on_full()
        return failed

    def _transact(self, writes: Sequence[PendingWrite[Any]]) -> Exception | None:
        """Run writes in one transaction and settle them; return what went wrong."""
        try:
            connection = self._transactions.begin()
            results = [_attempt(write, connection) for write in writes]
            self._transactions.commit()
        except Exception as error:  # noqa: BLE001  # raised to the callers, or tried again
            if str(error) != self.fault:  # retries log a reason once
                log.error("a transaction of %d writes failed: %s", len(writes), error)
            self.fault = str(error)
            self._transactions.roll_back()
            return error
        self.fault = None
        for write, result in zip(writes, results, strict=True):
            if isinstance(result, WorkerError):
                write.fail(result)
            else:
                write.succeed(result)
        return None


def _attempt(write: PendingWrite[Any], connection: object) -> Any:
    try:
        return write.run(connection)
    except WorkerError as error:
        return error


def _may_commit() -> bool:
    """Return whether only the disk can stop a transaction of this thread, or what follows it.

    A signal handler may raise anywhere in the main thread, and a thread deep in its own calls would
    meet the limit on recursion.
    """
    if threading.current_thread() is threading.main_thread():
        return False
    try:
        sys._getframe(sys.getrecursionlimit() - _FRAMES)
    except ValueError:
        return True
    return False
