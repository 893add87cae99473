"""Two daily copies of the database, made with SQLite's backup API while jobs are accepted.

    backups/worker.db.1     the newest copy, at most a day old while an engine runs
    backups/worker.db.2     the one before

A copy is never used by itself: it knows nothing of later jobs. `rebuild` begins with the newest
copy where the database cannot be read, and takes everything else from the jobs' directories.
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
_KEPT = 2
_PAGES = 256  # copied between two looks at whether the engine is closing
_SPARE = 32 << 20  # bytes that a copy leaves free on the disk


class InterruptedCopyError(Exception):
    """The engine is closing; the copy is made another time."""


def paths(state_dir: str) -> list[str]:
    """Return the places of the copies, the newest first."""
    return [os.path.join(state_dir, DIRECTORY, f"worker.db.{n}") for n in range(1, _KEPT + 1)]


def existing(state_dir: str) -> list[str]:
    """Return the copies that there are, the newest first."""
    return [path for path in paths(state_dir) if os.path.exists(path)]


def is_due(state_dir: str) -> bool:
    """Return whether the newest copy is missing, a day old, or from the future."""
    try:
        age = time.time() - os.stat(paths(state_dir)[0]).st_mtime
    except OSError:
        return True
    return not 0 <= age < _INTERVAL


def make(state_dir: str, database: str, is_closing: Callable[[], bool]) -> bool:
    """Copy the database, and let the copy replace the older one of the two; return whether it did.

    Writers are not blocked: the copy reads one snapshot through a connection of its own. A copy
    that SQLite finds damaged replaces nothing.
    """
    os.makedirs(os.path.join(state_dir, DIRECTORY), files.PRIVATE_DIR, exist_ok=True)
    if not _has_room(state_dir, database):
        log.warning("cannot copy the database: too little room on the disk")
        return False
    newest, older = paths(state_dir)
    temporary = f"{newest}.tmp"
    try:
        fault = copy(database, temporary, is_closing)
        if fault is not None:
            log.error("the copy of the database is not kept: %s", fault)
            return False
        if os.path.exists(newest):
            os.rename(newest, older)
        os.rename(temporary, newest)
        files.sync_dir(os.path.dirname(newest))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return True


def copy(source: str, target: str, is_closing: Callable[[], bool] = lambda: False) -> str | None:
    """Copy a database to a file of its own; return what SQLite finds wrong with the copy.

    Raises sqlite3.Error or OSError if it cannot be made, InterruptedCopyError if it is not to be.
    """

    def look(*_: object) -> None:
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
            # One snapshot to the end; without it every commit would begin the copy anew.
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            reader.backup(writer, pages=_PAGES, progress=look, sleep=0)
            writer.execute("PRAGMA journal_mode = DELETE")  # a copy is one file
            (found,) = writer.execute("PRAGMA quick_check(1)").fetchone()
        os.fsync(fd)
    finally:
        os.close(fd)
    return None if found == "ok" else str(found)


def _has_room(state_dir: str, database: str) -> bool:
    return shutil.disk_usage(state_dir).free >= os.stat(database).st_size + _SPARE
