"""Check that a database belongs to its state directory, and is the latest one.

A database that is missing, empty, damaged or an older copy lacks jobs that have a directory, and
some of these may be running. An engine that used it would start jobs twice and forget others, so
it refuses to start. Two things show that a database is older than its directory:

    generation      a number that grows at each start and after each copy; it is in the database,
                    then in a file beside it. The database must not be behind the file.
    claimed jobs    a job is claimed (spec.json) only after its record was committed. A claimed job
                    without a record, and without a note that it was removed, was recorded later.

Other directories without a record are left by a crash between the directory and the commit. They
are moved aside, and never deleted.

After a clean end the file also has the number of the latest change ("17 closed 4711"). If the
database still has that number, it is the latest one. Then the directories are not compared, which
would take a second or two for a million jobs.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from worker_core.disk import files, jobdir
from worker_core.model.errors import StoreUnavailable, WorkerError
from worker_core.store import backups, records
from worker_core.store.database import StoreDamaged
from worker_core.store.removal import Remover
from worker_core.store.store import Store

log = logging.getLogger(__name__)

ASIDE = "set-aside"
_FILE = "generation"
_KEY = "generation"
_SHOWN = 3  # ids in a message


def job_ids(state_dir: str) -> set[str]:
    """Return the ids of the jobs that have a directory, recorded or not."""
    return set(filter(jobdir.is_id, _names(state_dir)))


def _names(state_dir: str) -> list[str]:
    return os.listdir(os.path.join(state_dir, jobdir.JOBS))


def _has_jobs(state_dir: str) -> bool:
    with os.scandir(os.path.join(state_dir, jobdir.JOBS)) as entries:
        return any(jobdir.is_id(entry.name) for entry in entries)


def refusal(state_dir: str, why: str) -> StoreUnavailable:
    """Return the error that refuses the start, with the cure."""
    copies = backups.existing(state_dir)
    begins = "there is no copy of the database to begin with"
    if copies:
        made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(os.stat(copies[0]).st_mtime))
        begins = f"where the database cannot be read, it begins with the copy {copies[0]} of {made}"
    return StoreUnavailable(
        f"cannot use {state_dir}: {why}; run `workerd recover`, which makes the records again from "
        f"the jobs' directories and deletes nothing ({begins})"
    )


@dataclass
class Leftovers:
    """What earlier engines left when they crashed. It concerns only jobs without a record."""

    unknown: set[str] = field(default_factory=set)
    """Jobs that have a directory and no record."""
    removed: set[str] = field(default_factory=set)
    """Jobs that were removed, and whose directory may still exist."""


def open_store(
    state_dir: str, database: str, on_full: Callable[[], None]
) -> tuple[Store, Leftovers]:
    """Open the database of a state directory; return it, and what crashes left.

    Raises StoreUnavailable if jobs have directories but there is no database, if the database is
    not the latest one, or if it cannot be used.
    """
    has_jobs = _has_jobs(state_dir)
    is_new = check_present(state_dir, database, has_jobs=has_jobs)
    try:
        store = Store(database, may_create=not has_jobs, on_full=on_full)
        try:
            with store.reading() as db:
                left = Leftovers() if is_new else check_current(state_dir, db)
        except BaseException:
            store.close()
            raise
    except StoreDamaged as error:
        raise refusal(state_dir, f"the database cannot be used: {error}") from error
    return store, left


def close_store(state_dir: str, store: Store) -> None:
    """Close the database, and write its state to the file beside it, for the next start."""
    store.finish()
    is_clean = store.fault is None
    try:
        with store.reading() as db:
            state = _closed_state(db)
    except WorkerError:
        is_clean = False
    store.close()
    if is_clean:
        _write(state_dir, state)


def check_present(state_dir: str, database: str, *, has_jobs: bool) -> bool:
    """Return whether there is neither a database nor a job, as in a new state directory.

    Raises StoreUnavailable if jobs have directories but there is no database, or an empty one.
    """
    exists = os.path.exists(database)
    if exists and os.path.getsize(database):
        return False
    if has_jobs:
        name = database if exists else os.path.basename(database)
        fault = "empty" if exists else "missing"
        count = _count(job_ids(state_dir))
        raise refusal(state_dir, f"{name} is {fault}, but {count} a directory")
    return True


def check_current(state_dir: str, db: sqlite3.Connection) -> Leftovers:
    """Return what crashes left; raise StoreUnavailable if the database is older."""
    left = Leftovers(removed=records.removals(db))
    noted = _read(state_dir)
    if noted == _closed_state(db):
        return left  # nothing was written since, so the directories need not be compared
    if generation(db) < _number(noted.partition(" ")[0]):
        raise refusal(state_dir, "the database is an older copy of the one that was used last")
    names = set(_names(state_dir)) - records.ids(db)
    left.unknown = set(filter(jobdir.is_id, names))
    forgotten = sorted(
        job_id
        for job_id in left.unknown - left.removed
        if _is_forgotten(jobdir.JobDir(state_dir, job_id))
    )
    if forgotten:
        listed = ", ".join(forgotten[:_SHOWN]) + ("" if len(forgotten) <= _SHOWN else ", …")
        was = "it was" if len(forgotten) == 1 else "they were"
        why = f"{_count(forgotten)} no record although {was} started ({listed})"
        raise refusal(state_dir, f"the database is an older copy, or not of this directory: {why}")
    return left


def advance(state_dir: str, store: Store) -> None:
    """Begin the next generation soon, so that every earlier copy is recognised as older."""

    store.post((lambda db: next_generation(state_dir, db), lambda number: note(state_dir, number)))


def next_generation(state_dir: str, db: sqlite3.Connection) -> int:
    """Write the next generation to the database; return it, for the file, after the commit."""
    number = max(generation(db), _number(_read(state_dir).partition(" ")[0])) + 1
    records.set_meta(db, _KEY, str(number))
    return number


def generation(db: sqlite3.Connection) -> int:
    """Return the generation of a database; 0 in one of release 0.1.0."""
    return _number(records.get_meta(db, _KEY) or "")


def note(state_dir: str, number: int) -> None:
    """Write the generation to the file; the database already has it."""
    _write(state_dir, str(number))


def clear(state_dir: str, left: Leftovers, remover: Remover) -> None:
    """Finish removals that a crash interrupted, and move other directories without record aside."""
    remover.finish(left.removed)
    for job_id in left.unknown - left.removed:
        directory = jobdir.JobDir(state_dir, job_id)
        if directory.removed():
            directory.remove()
        else:
            set_aside(state_dir, directory.path)


def set_aside(state_dir: str, path: str) -> str | None:
    """Move a file or directory to set-aside/; return where to, None if it could not be moved."""
    target = free_name(state_dir, os.path.basename(path))
    try:
        os.rename(path, target)
    except OSError as error:
        log.error("cannot move %s aside: %s", path, error.strerror)
        return None
    log.warning("%s has no record in the database; it is now %s", path, target)
    return target


def free_name(state_dir: str, name: str) -> str:
    """Return a path in set-aside/ that does not exist yet."""
    place = os.path.join(state_dir, ASIDE)
    os.makedirs(place, files.PRIVATE_DIR, exist_ok=True)
    target, number = os.path.join(place, name), 1
    while os.path.lexists(target):
        target, number = os.path.join(place, f"{name}.{number}"), number + 1
    return target


def _is_forgotten(directory: jobdir.JobDir) -> bool:
    return directory.claimed() is not None and not directory.removed()


def _count(jobs: Iterable[str]) -> str:
    number = len(list(jobs))
    return "1 job has" if number == 1 else f"{number} jobs have"


def _closed_state(db: sqlite3.Connection) -> str:
    """Return what `generation` holds after a clean end; every later change makes it differ."""
    return f"{generation(db)} closed {records.last_version(db)}"


def _write(state_dir: str, text: str) -> None:
    try:
        files.replace(os.path.join(state_dir, _FILE), text.encode(), sync=True)
    except OSError as error:  # then the database is ahead, which is not a fault
        log.warning("cannot write the generation of the database: %s", error)


def _read(state_dir: str) -> str:
    try:
        return files.read(os.path.join(state_dir, _FILE)).decode("ascii", "replace")
    except FileNotFoundError:
        return ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
