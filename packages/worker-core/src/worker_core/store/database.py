"""The durable store: SQLite in WAL mode with synchronous=FULL, one writer at a time, many readers.

What is written comes as a function of a connection. Whoever wants one done leads: it takes all that
wait, runs them in one transaction, commits once (one fsync for many jobs), and only then tells the
callers. What comes meanwhile waits, and one of those who wait leads next. So a write alone is done
by its own thread, and of many each thread is woken once; with a thread for writing that would be
two changes of threads for each, which cost more than the write.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

from worker_core import failpoints
from worker_core.disk import files, reserve
from worker_core.model.errors import EngineClosed, StoreUnavailable, WorkerError
from worker_core.notify import Subscription
from worker_core.store import records
from worker_core.store.cache import Recent

log = logging.getLogger(__name__)

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_BUSY_SECONDS = 5.0  # how long another process may hold the database, a backup for instance
_RETRY_SECONDS = 0.2
_CHECK_SECONDS = 2.0  # for a write that only tries whether it can be done
_READERS = 16  # connections kept for reading; more are opened and closed as needed
_ROOM = 300  # calls below the interpreter's limit that are left to who leads


_CURES = {
    errno.EACCES: "; make it readable and writable for the account that opens it",
    errno.EPERM: "; make it readable and writable for the account that opens it",
    errno.EROFS: "; mount the file system so that it can be written",
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


class StoreDamaged(StoreUnavailable):
    """The file is no database, or not one of this program."""


class Write(Generic[T]):
    """One operation that was asked for, and what came of it.

    One that is awaited has a caller, who is told what went wrong. Any other must be done: it is
    tried until it is, whatever the disk says; an urgent one may take the reserve on the disk.
    """

    def __init__(
        self,
        store: Store,
        run: Operation[T],
        then: Callable[[T], None] | None,
        *,
        awaited: bool = True,
        urgent: bool = False,
        may_lead: bool = True,
    ) -> None:
        self._store = store
        self._turn = threading.Lock()  # free once it is done, or its caller is to lead
        self._turn.acquire()
        self.run = run
        self.then = then
        self.awaited = awaited
        self.urgent = urgent
        self.may_lead = awaited and may_lead and _fit_to_lead()
        self.done = False
        self.value: T | None = None
        self.error: Exception | None = None

    def result(self) -> T:
        """Have it done, here or by whoever is at it; return what it returned or raise."""
        if not self.done and not (self.may_lead and self._store.lead()):
            self._turn.acquire()
            if not self.done:
                self._store.go_on()
        if self.error is not None:
            raise self.error
        return cast("T", self.value)

    def wait(self, seconds: float) -> None:
        """Wait for so long until it is done; whoever does that will not lead."""
        self._turn.acquire(timeout=seconds)

    def wake(self) -> None:
        """Let the caller go on: it is done, or the caller is to lead."""
        self._turn.release()


class Store:
    """One database file. All methods may be called from any thread."""

    def __init__(
        self,
        path: str,
        *,
        durable: bool = True,
        may_create: bool = True,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        """Open or create it, bringing its schema to this version.

        `on_full` is called when there is no room on the disk for an urgent write.

        Raises StoreUnavailable if it cannot be opened, or was written by a later release, and
        StoreDamaged if it is no database, or an empty one although it must not be created.
        """
        self._path = path
        self._durable = durable
        self._on_full = on_full
        self._readers: list[sqlite3.Connection] = []
        self._gate = threading.Lock()  # guards what follows
        self._waiting: list[Write[Any]] = []  # the first came first
        self._leading = False
        self._backlog = False  # some of what waits has failed, and is to be tried again
        self._closed = False
        # For the thread that leads where nobody else can. No Event: a signal handler may take the
        # main thread out of `set` with the lock of that held.
        self._call = Subscription()
        self.recent = Recent()
        self.fault: str | None = None
        """Why the last transaction failed; None when it did not."""
        with _unavailable(f"cannot open {path}"):
            # Created with its mode; SQLite gives the same one to the -wal and -shm files.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.PRIVATE_FILE))
            self._db = self._connect()
            try:
                _migrate(self._db, path, may_create=may_create)
                last = self._db.execute(records.QUERIES["last_version"]).fetchone()
            except BaseException:
                self._db.close()
                raise
        self._version: int = last[0]
        self._thread = threading.Thread(target=self._stand_in, name="worker-store", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the limit on processes
            self._db.close()
            raise

    def write(self, run: Operation[T], then: Callable[[T], None] | None = None) -> Write[T]:
        """Have `run` executed in a transaction; call `result` of what is returned to have it done.

        `run` may be called more than once, in a new transaction each, and raises WorkerError only
        before it writes. `then` is called with its result after the commit and before the caller
        goes on, in the order of the writes, by the thread that leads; it may `post`, and must not
        wait for a write.
        """
        write = Write(self, run, then)
        self._put(write)
        return write

    def post(
        self, *writes: tuple[Operation[T], Callable[[T], None] | None], urgent: bool = False
    ) -> None:
        """Have operations executed as `write` does, until they are, with nobody waiting for it.

        They are done on return, or soon by another thread. After `close` they are not: whoever
        posts knows a second way to the same end.
        """
        leads = _fit_to_lead()
        with self._gate:
            if self._closed:
                return
            if not leads:
                self._call.notify()
            self._waiting += [
                Write(self, run, then, awaited=False, urgent=urgent) for run, then in writes
            ]
        if leads:
            self.lead()

    def check(self) -> str | None:
        """Return why nothing can be stored now, None if it can.

        After a failure it tries: otherwise a server would stay out of service, for want of a job
        that shows it is well again.
        """
        if self.fault is not None:
            # The disk may hang, and with it who leads.
            trial = Write(self, _trial, None, may_lead=False)
            with contextlib.suppress(EngineClosed):
                self._put(trial)
                trial.wait(_CHECK_SECONDS)
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
                db = self._readers.pop()
            except IndexError:
                db = self._connect()
            try:
                yield db
            finally:
                if len(self._readers) < _READERS:
                    self._readers.append(db)
                else:
                    db.close()

    def close(self) -> None:
        """Finish what was asked for, then close."""
        with self._gate:
            self._closed = True
        self._call.notify()
        self._thread.join()
        self._db.close()
        while self._readers:
            self._readers.pop().close()

    def _put(self, write: Write[Any]) -> None:
        with self._gate:
            if self._closed:
                raise EngineClosed("the engine was closed")
            if not write.may_lead:
                self._call.notify()  # first: what is interrupted in between was not asked for
            self._waiting.append(write)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        db.row_factory = sqlite3.Row
        records.add_functions(db)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
            db.execute("PRAGMA cache_size = -2000")
        except BaseException:
            db.close()
            raise
        return db

    # -- whoever leads ---------------------------------------------------------------------------

    def lead(self) -> bool:
        """Do what waits, unless another thread is at it or has to be: then return False."""
        with self._gate:
            if self._leading:
                return False
            self._leading = True
        self.go_on()
        return True

    def go_on(self) -> None:
        """Do what waits, as the thread whose turn it is, and pass the turn on."""
        leading = True
        while leading:
            with self._gate:
                batch, self._waiting = self._waiting, []
            backlog = self._commit(batch)
            for write in batch:
                if write.awaited:
                    write.wake()
            with self._gate:
                self._waiting[:0] = backlog
                self._backlog = bool(backlog)
                heir = next((write for write in self._waiting if write.may_lead), None)
                leading = heir is None and len(self._waiting) > len(backlog)
                self._leading = leading or heir is not None
        if heir is not None:
            heir.wake()
        elif backlog and threading.current_thread() is not self._thread:
            self._call.notify()

    def _stand_in(self) -> None:
        """Lead for who is not fit to, and for what has to be tried again."""
        ended = False
        while not ended:
            self._call.wait(_RETRY_SECONDS if self._backlog or self._closed else None)
            closed = self._closed  # if it is, all that was asked for is tried from here on
            self.lead()
            with self._gate:
                ended = closed and not self._leading
                if ended:  # whoever leads now finds nothing, and the database may be closed
                    left, self._waiting = self._waiting, []
        if left:  # each is in its job's directory, and told again at the next start
            log.error("%d writes were not stored: %s", len(left), self.fault)

    def _commit(self, batch: list[Write[Any]]) -> list[Write[Any]]:
        """Commit a batch; return what has to be tried again."""
        if not batch or self._transact(batch) is None:
            return []
        # One of them is at fault, or the disk is: each by itself. The first that must be done and
        # cannot be holds back the others that must be, so that their order stays.
        backlog: list[Write[Any]] = []
        full = False
        for write in batch:
            error = None if backlog and not write.awaited else self._transact([write])
            if write.awaited:
                if error is not None:
                    _settle(write, StoreUnavailable(f"cannot store: {_why(error)}"))
            elif backlog or isinstance(error, sqlite3.Error | OSError):
                full = full or _is_full(error)
                backlog.append(write)
        if full and any(write.urgent for write in backlog):
            self._on_full()
        return backlog

    def _transact(self, batch: list[Write[Any]]) -> Exception | None:
        """Run a batch in one transaction and tell its callers; return what went wrong."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self.recent.begin()
            results = [_attempt(write, self._db) for write in batch]
            failpoints.point("engine.before_commit")
            self.recent.prepare()
            self._db.execute("COMMIT")
            self.recent.commit()
            failpoints.point("engine.after_commit")
        except Exception as error:  # noqa: BLE001  # told to the callers, or tried again
            self.fault = str(error)
            log.error("a transaction of %d writes failed: %s", len(batch), error)
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            return error
        self.fault = None
        for write, result in zip(batch, results, strict=True):
            _settle(write, result)
        return None


def _attempt(write: Write[Any], db: sqlite3.Connection) -> Any:
    try:
        return write.run(db)
    except WorkerError as error:
        return error


def _settle(write: Write[Any], result: Any) -> None:
    if isinstance(result, WorkerError):
        write.error = result
    else:
        try:
            if write.then is not None:
                write.then(result)
        except Exception:
            log.exception("what follows a write failed")
        write.value = result
    write.done = True


def _is_full(error: Exception | None) -> bool:
    # A file that cannot grow is an error of I/O to SQLite, where it maps the file.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _why(error: Exception) -> str:
    return f"{error}; {reserve.CURE}" if _is_full(error) else str(error)


def _trial(db: sqlite3.Connection) -> None:
    records.set_meta(db, "checked", "")


def _fit_to_lead() -> bool:
    """Whether nothing but the disk can keep this thread from leading to the end.

    A signal handler may take the main thread out of anything, and the limit on recursion one that
    is deep in its own calls.
    """
    if threading.current_thread() is threading.main_thread():
        return False
    try:
        sys._getframe(sys.getrecursionlimit() - _ROOM)
    except ValueError:
        return True
    return False


def schema_version(db: sqlite3.Connection, path: str) -> int:
    """Return the version of the schema; raise StoreUnavailable if a later release wrote it."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    newest = len(records.MIGRATIONS)
    if version > newest:
        raise StoreUnavailable(
            f"cannot open {path}: it has version {version} and this release knows versions up to "
            f"{newest}; install the release that wrote it, or a later one"
        )
    return version


def _migrate(db: sqlite3.Connection, path: str, *, may_create: bool) -> None:
    version = schema_version(db, path)
    newest = len(records.MIGRATIONS)
    if version == 0 and not may_create:
        raise StoreDamaged(f"{path} has no tables")
    for number in range(version, newest):
        script = records.MIGRATIONS[number]
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number + 1}; COMMIT;")


@contextlib.contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
        kind = StoreDamaged if damaged else StoreUnavailable
        raise kind(f"{what}: {error}") from error
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "")
        raise StoreUnavailable(f"{what}: {error.strerror or error}{cure}") from error
