"""The durable store: SQLite in WAL mode with synchronous=FULL, one writing thread, many readers.

What is written goes to the writer as a function of a connection. It takes all that wait, runs them
in one transaction and commits once (one fsync for many jobs), and only then tells the callers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from worker_core import atomic, crash, records
from worker_core.errors import EngineClosed, StoreUnavailable, WorkerError
from worker_core.recent import Recent

log = logging.getLogger(__name__)

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_BUSY_SECONDS = 5.0  # how long another process may hold the database, a backup for instance
_RETRY_SECONDS = 0.2
_SOON = 0.02  # seconds that a write which is not urgent waits for others
_CHECK_SECONDS = 2.0  # for a write that only tries whether it can be done
_READERS = 16  # connections kept for reading; more are opened and closed as needed


@dataclass
class _Write(Generic[T]):
    """One operation; `must` means that it is tried until it is done, whatever the disk says, and
    `soon` that it need not be on the disk at once."""

    run: Operation[T]
    then: Callable[[T], None] | None
    must: bool
    soon: bool
    future: Future[T] = field(default_factory=Future)


class Store:
    """One database file. All methods may be called from any thread."""

    def __init__(self, path: str, *, durable: bool = True) -> None:
        """Open or create it, bringing its schema to this version.

        Raises StoreUnavailable if it cannot be opened, or was written by a later release.
        """
        self._path = path
        self._durable = durable
        self._queue: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue(_READERS)
        self._gate = threading.Lock()  # nothing is put behind the end of the queue
        self._closed = False
        self.recent = Recent()
        self.fault: str | None = None
        """Why the last transaction failed; None when it did not."""
        with _unavailable(f"cannot open {path}"):
            # Created with its mode; SQLite gives the same one to the -wal and -shm files.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, atomic.PRIVATE_FILE))
            self._db = self._connect()
            try:
                _migrate(self._db, path)
            except BaseException:
                self._db.close()
                raise
        self._version: int = self._db.execute(records.QUERIES["last_version"]).fetchone()[0]
        self._thread = threading.Thread(target=self._work, name="worker-store", daemon=True)
        self._thread.start()

    def write(
        self,
        run: Operation[T],
        *,
        then: Callable[[T], None] | None = None,
        must: bool = False,
        soon: bool = False,
    ) -> Future[T]:
        """Have `run` executed in a transaction; the future is done once that is on the disk.

        `run` may be called more than once, in a new transaction each, and raises WorkerError only
        before it writes. `then` is called with its result in the writer's thread, after the commit
        and before the future is done, in the order of the writes. With `soon` it may wait 20 ms
        for others, to share their commit.
        """
        write = _Write(run, then, must, soon)
        with self._gate:
            if not self._closed:
                self._queue.put(write)
                return write.future
        write.future.set_exception(EngineClosed("the engine was closed"))
        return write.future

    def check(self) -> str | None:
        """Return why nothing can be stored now, None if it can.

        After a failure it tries: otherwise a server would stay out of service, for want of a job
        that shows it is well again.
        """
        if self.fault is not None:
            with contextlib.suppress(WorkerError, TimeoutError):
                self.write(lambda db: records.set_meta(db, "checked", "")).result(_CHECK_SECONDS)
        return self.fault

    @property
    def version(self) -> int:
        """The number of the latest change."""
        return self._version

    def next_version(self) -> int:
        """Return the next number of a change; only for what runs inside a write."""
        self._version += 1
        return self._version

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for reading what is committed; raise StoreUnavailable."""
        with _unavailable("cannot read the database"):
            try:
                db = self._readers.get_nowait()
            except queue.Empty:
                db = self._connect()
            try:
                yield db
            finally:
                try:
                    self._readers.put_nowait(db)
                except queue.Full:
                    db.close()

    def close(self) -> None:
        """Finish what was asked for, then close."""
        with self._gate:
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._db.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        db.row_factory = sqlite3.Row
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
            db.execute("PRAGMA cache_size = -2000")
        except BaseException:
            db.close()
            raise
        return db

    # Everything below runs in the writer's thread.

    def _work(self) -> None:
        backlog: list[_Write[Any]] = []
        more = True
        while more:
            new, more = self._take(wait=_RETRY_SECONDS if backlog else None)
            if backlog or new:
                backlog = self._commit(backlog + new)
        for (
            write
        ) in backlog:  # an end is in its job's directory, and is told again at the next start
            write.future.set_exception(StoreUnavailable(f"cannot store: {self.fault}"))

    def _take(self, wait: float | None) -> tuple[list[_Write[Any]], bool]:
        taken: list[_Write[Any]] = []
        try:
            write = self._queue.get(timeout=wait)
            until = time.monotonic() + _SOON
            while write is not None:
                taken.append(write)
                if not write.soon:
                    until = 0.0
                left = until - time.monotonic()
                write = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
        except queue.Empty:
            return taken, True
        return taken, False

    def _commit(self, batch: list[_Write[Any]]) -> list[_Write[Any]]:
        """Commit a batch; return what has to be tried again."""
        if self._transact(batch) is None:
            return []
        # One of them is at fault, or the disk is: each by itself. The first that must be done and
        # cannot be holds back the others that must be, so that their order stays.
        backlog: list[_Write[Any]] = []
        for write in batch:
            error = None if write.must and backlog else self._transact([write])
            if write.must and (backlog or isinstance(error, sqlite3.Error | OSError)):
                backlog.append(write)
            elif error is not None:
                write.future.set_exception(StoreUnavailable(f"cannot store: {error}"))
        return backlog

    def _transact(self, batch: list[_Write[Any]]) -> Exception | None:
        """Run a batch in one transaction and tell its callers; return what went wrong."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self.recent.begin()
            results = [_attempt(write, self._db) for write in batch]
            crash.point("engine.before_commit")
            self.recent.prepare()
            self._db.execute("COMMIT")
            self.recent.commit()
            crash.point("engine.after_commit")
        except Exception as error:  # noqa: BLE001  # told to the callers, or tried again
            self.fault = str(error)
            log.error("a transaction of %d writes failed: %s", len(batch), error)
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            return error
        self.fault = None
        for write, result in zip(batch, results, strict=True):
            _tell(write, result)
        return None


def _attempt(write: _Write[Any], db: sqlite3.Connection) -> Any:
    try:
        return write.run(db)
    except WorkerError as error:
        return error


def _tell(write: _Write[Any], result: Any) -> None:
    if isinstance(result, WorkerError):
        write.future.set_exception(result)
        return
    try:
        if write.then is not None:
            write.then(result)
    except Exception:
        log.exception("what follows a write failed")
    write.future.set_result(result)


def _migrate(db: sqlite3.Connection, path: str) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    newest = len(records.MIGRATIONS)
    if version > newest:
        raise StoreUnavailable(
            f"cannot open {path}: it has version {version} and this release knows versions up to "
            f"{newest}; install the release that wrote it, or a later one"
        )
    for number in range(version, newest):
        script = records.MIGRATIONS[number]
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number + 1}; COMMIT;")


@contextlib.contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{what}: {error}") from error
