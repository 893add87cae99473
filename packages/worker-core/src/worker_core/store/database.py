"""The SQLite file: open it, bring its schema to this release, read it, run transactions.

WAL mode, so that readers and the writer do not wait for each other; synchronous=FULL, so that a
committed transaction survives a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import Iterator

from worker_core.disk import files, reserve
from worker_core.model.errors import StoreUnavailable
from worker_core.store import columns, listing, records

log = logging.getLogger(__name__)

_BUSY_SECONDS = 5.0  # how long another process may hold the database, a backup for instance
_READERS = 16  # connections kept for reading; more are opened and closed as needed

_CURES = {
    errno.EACCES: "; make it readable and writable for the account that opens it",
    errno.EPERM: "; make it readable and writable for the account that opens it",
    errno.EROFS: "; mount the file system so that it can be written",
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


class StoreDamaged(StoreUnavailable):
    """The file is not a database, or not one of this program."""


class Database:
    """One database file. `reading` may be used by any thread; the rest by one at a time."""

    failures = (sqlite3.Error, OSError)

    def __init__(self, path: str, *, durable: bool, may_create: bool) -> None:
        """Open or create the file, and bring its schema to this version.

        Raises StoreUnavailable if it cannot be opened, or was written by a later release, and
        StoreDamaged if it is not a database, or an empty one although it must not be created.
        """
        self._path = path
        self._durable = durable
        self._readers: list[sqlite3.Connection] = []
        with unavailable(f"cannot open {path}"):
            # Created with its mode; SQLite gives the same one to the -wal and -shm files.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.PRIVATE_FILE))
            self._writer = self._connect()
            try:
                _migrate(self._writer, path, may_create=may_create)
            except BaseException:
                self._writer.close()
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for reading what is committed; raise StoreUnavailable."""
        with unavailable("cannot read the database"):
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

    def begin(self) -> sqlite3.Connection:
        """Begin a transaction, and return the connection that has it."""
        self._writer.execute("BEGIN IMMEDIATE")
        return self._writer

    def commit(self) -> None:
        """Commit the transaction: on return it is on the disk."""
        self._writer.execute("COMMIT")

    def roll_back(self) -> None:
        """Undo the transaction, if there is one."""
        with contextlib.suppress(sqlite3.Error):
            self._writer.execute("ROLLBACK")

    def is_full(self, error: Exception) -> bool:
        """Return whether an error means that the disk is full."""
        # Where SQLite maps a file, a file that cannot grow is an I/O error.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

    def describe(self, error: Exception) -> str:
        """Return an error as a sentence for people, with the cure where one is known."""
        return f"{error}; {reserve.CURE}" if self.is_full(error) else str(error)

    def close(self) -> None:
        """Close all connections."""
        self._writer.close()
        while self._readers:
            self._readers.pop().close()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        db.row_factory = sqlite3.Row
        listing.add_functions(db)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
            db.execute("PRAGMA cache_size = -2000")
        except BaseException:
            db.close()
            raise
        return db


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
    if 0 < version < newest:
        log.warning(
            "%s is brought from schema %d to %d; this may take minutes", path, version, newest
        )
    for number in range(version, newest):
        script = records.MIGRATIONS[number]
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number + 1}; COMMIT;")
    if statements := columns.missing(db):
        db.executescript(f"BEGIN IMMEDIATE; {'; '.join(statements)}; COMMIT;")


@contextlib.contextmanager
def unavailable(what: str) -> Iterator[None]:
    """Raise errors of SQLite and the file system as StoreUnavailable."""
    try:
        yield
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
        kind = StoreDamaged if damaged else StoreUnavailable
        raise kind(f"{what}: {error}") from error
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "")
        raise StoreUnavailable(f"{what}: {error.strerror or error}{cure}") from error
