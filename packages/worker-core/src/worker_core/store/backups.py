"""Two daily copies of the database, made with SQLite's backup API while jobs are accepted.

    backups/worker.db.1     the newest copy, at most a day old while an engine runs
    backups/worker.db.2     the one before

A copy alone is not enough, because it lacks later jobs. If the database cannot be read, `rebuild`
begins with the newest copy, and adds what it finds in the directories of the jobs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable

from worker_core.disk import files

log = logging.getLogger(__name__)

DIRECTORY = "backups"
_INTERVAL = 86400.0  # seconds
_RETRY = 60.0  # seconds after the first failure
_KEPT = 2
_PAGES = 256  # copied between two checks whether the engine is closing
_SPARE = 32 << 20  # bytes that a copy leaves free on the disk


class InterruptedCopyError(Exception):
    """The engine is closing; the copy is made another time."""


class CopyFailedError(Exception):
    """The copy could not be made, or SQLite finds it damaged; the message says why."""


class DailyCopies:
    """Makes a copy each day. After a failure it waits a minute, then twice as long each time.

    Otherwise failing copies of a large database, one each minute, would slow all writes down.
    """

    def __init__(
        self,
        state_dir: str,
        database: str,
        is_closing: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state_dir = state_dir
        self._database = database
        self._is_closing = is_closing
        self._monotonic = monotonic
        self._wait = 0.0  # seconds; 0 unless the last attempt failed
        self._not_before = 0.0
        self._reason: str | None = None

    def make_if_due(self) -> bool:
        """Make a copy if one is due and it is not too soon after a failure; return whether it did.

        Raises nothing: the engine goes on without a copy. Each reason is logged once.
        """
        if self._monotonic() < self._not_before or not is_due(self._state_dir):
            return False
        try:
            make(self._state_dir, self._database, self._is_closing)
        except InterruptedCopyError:
            log.info("the copy of the database is put off: the engine is closing")
            return False
        except (CopyFailedError, OSError, sqlite3.Error) as error:
            self._failed(str(error))
            return False
        self._wait, self._reason = 0.0, None
        return True

    def _failed(self, reason: str) -> None:
        self._wait = min(self._wait * 2, _INTERVAL) or _RETRY
        self._not_before = self._monotonic() + self._wait
        if reason != self._reason:
            log.error("cannot copy the database: %s; it is tried again later", reason)
        self._reason = reason


def paths(state_dir: str) -> list[str]:
    """Return the paths of the copies, the newest first, whether they exist or not."""
    return [os.path.join(state_dir, DIRECTORY, f"worker.db.{n}") for n in range(1, _KEPT + 1)]


def existing(state_dir: str) -> list[str]:
    """Return the paths of the copies that exist, the newest first."""
    return [path for path in paths(state_dir) if os.path.exists(path)]


def is_due(state_dir: str) -> bool:
    """Return whether the newest copy is missing, a day old, or dated in the future."""
    try:
        age = time.time() - os.stat(paths(state_dir)[0]).st_mtime
    except OSError:
        return True
    return not 0 <= age < _INTERVAL


def make(state_dir: str, database: str, is_closing: Callable[[], bool]) -> None:
    """Copy the database, and let the copy replace the older one of the two.

    Writers are not blocked: the copy reads one snapshot through a connection of its own. A copy
    that SQLite finds damaged replaces nothing. Raises CopyFailedError, sqlite3.Error, OSError, or
    InterruptedCopyError when the engine is closing.
    """
    os.makedirs(os.path.join(state_dir, DIRECTORY), files.PRIVATE_DIR, exist_ok=True)
    if not _has_space(state_dir, database):
        raise CopyFailedError("the disk has too little free space")
    newest, older = paths(state_dir)
    temporary = f"{newest}.tmp"
    try:
        damage = copy(database, temporary, is_closing)
        if damage is not None:
            raise CopyFailedError(f"the copy is damaged: {damage}")
        if os.path.exists(newest):
            os.rename(newest, older)
        os.rename(temporary, newest)
        files.sync_dir(os.path.dirname(newest))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def copy(source: str, target: str, is_closing: Callable[[], bool] = lambda: False) -> str | None:
    """Copy a database to another file; return what SQLite finds wrong with the copy, or None.

    Raises sqlite3.Error or OSError if it cannot be made, and InterruptedCopyError as soon as
    `is_closing` returns true.
    """

    def stop_if_closing(*_: object) -> None:
        if is_closing():
            raise InterruptedCopyError

    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.PRIVATE_FILE)
    try:
        with (
            contextlib.closing(sqlite3.connect(source, isolation_level=None)) as reader,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writer,
        ):
            writer.execute("PRAGMA synchronous = OFF")  # it is synced once, below
            # One snapshot for the whole copy; without it, each commit would start the copy again.
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            reader.backup(writer, pages=_PAGES, progress=stop_if_closing, sleep=0)
            writer.execute("PRAGMA journal_mode = DELETE")  # a copy is one file
            (result,) = writer.execute("PRAGMA quick_check(1)").fetchone()
        os.fsync(fd)
    finally:
        os.close(fd)
    return None if result == "ok" else str(result)


def _has_space(state_dir: str, database: str) -> bool:
    return shutil.disk_usage(state_dir).free >= os.stat(database).st_size + _SPARE
