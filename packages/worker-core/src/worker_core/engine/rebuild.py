"""Makes the records of a state directory again from the directories of its jobs.

This is for a state directory whose database is missing, empty, damaged or an older copy. It starts
with the records of that database, or of the newest copy that can be read. Then each job's directory
decides:

    exit.json                  the job has ended as the file says
    spec.json, no exit.json    it was started: running, and the next engine asks the supervisor
    neither                    it is queued. If somebody asked to kill it, it is killed. If the
                               machine has restarted since the job was accepted, it is lost,
                               because the file that says that it was started may be lost too
    no record.json             release 0.1.0: owner, name, labels and idempotency key are not known
    not even spec.json         not a job; it is moved aside

Nothing is deleted: the old database is moved aside as well. Running jobs are not touched.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from worker_core.disk import files, jobdir, statedir
from worker_core.disk.jobdir import JobDir
from worker_core.engine import messages
from worker_core.model.errors import StoreUnavailable
from worker_core.model.job import UNKNOWN, Change, Job
from worker_core.model.kill import KillRequest
from worker_core.model.spec import DEFAULT, JobSpec
from worker_core.model.state import UNOBSERVED, Cause, Event, State
from worker_core.store import backups, continuity, dependents, records
from worker_core.store.database import schema_version
from worker_core.store.store import Store

UNKNOWN_OWNER = ":unknown"
"""The owner of jobs whose owner is not known. No user can have this name, because of the colon."""

_UNKNOWN_COMMAND = "unknown"
_SUFFIXES = ("", "-wal", "-shm")
_RESTARTED = (
    "the database was lost and the machine was restarted: it is not known whether the job was "
    "started"
)
_NO_DIRECTORY = "the directory of the job is missing: it is not known what became of it"


@dataclass
class Rebuilt:
    """What `rebuild_records` did; `states` counts all jobs that have a record now."""

    base: str | None = None
    """The database that it started with: the old one, a copy, or None."""
    replaced: str | None = None
    """Where the old database is now."""
    states: Counter[str] = field(default_factory=Counter)
    made: int = 0
    """The number of records that were made from directories alone."""
    unowned: list[str] = field(default_factory=list)
    """Ids of jobs whose owner is not known; their owner is now UNKNOWN_OWNER."""
    dropped: list[str] = field(default_factory=list)
    """Ids of finished jobs of `base` without a directory: they were removed later."""
    aside: list[str] = field(default_factory=list)
    """New paths of directories that do not belong to a job."""


def described(job: Job, spec_hash: str, key: str | None, boot: str) -> dict[str, Any]:
    """Return what is written to a new job's directory; the record can be made from it."""
    return {
        "format": 1,
        "owner": job.owner,
        "created_at": job.created_at,
        "run_as": job.run_as,
        "idempotency_key": key,
        "spec_hash": spec_hash,
        "boot_id": boot,
        "spec": job.spec.to_dict(),
    }


def wish(job: Job) -> dict[str, Any]:
    """Return what is written to the directory of a job when somebody kills it."""
    kill = job.kill or KillRequest()
    return {"by": kill.by, "reason": kill.reason}


def rebuild_records(state_dir: str | os.PathLike[str]) -> Rebuilt:
    """Make the records again and replace the database with them; return what was done.

    Safe to repeat. Raises StateDirInUse while an engine has the directory open, and
    StoreUnavailable if it is not a state directory, was used by a later release, or cannot be
    written.
    """
    path = statedir.absolute(state_dir)
    if not os.path.isdir(os.path.join(path, jobdir.JOBS)):
        raise StoreUnavailable(f"cannot recover {path}: it is not a state directory of workerd")
    with contextlib.ExitStack() as stack:
        statedir.prepare(path, stack)
        try:
            return _rebuild(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"cannot recover {path}: {error}") from error


def _rebuild(state_dir: str) -> Rebuilt:
    database = os.path.join(state_dir, statedir.DATABASE)
    new = f"{database}.new"
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new + suffix)
    report = Rebuilt()
    for candidate in [database, *backups.existing(state_dir)]:
        if _copied(candidate, new):
            report.base = candidate
            break
    store = Store(new)
    try:
        work = _Work(state_dir, store, report)
        store.write(work.run).result()
    finally:
        store.close()
    _replace(state_dir, database, new, report)
    continuity.note(state_dir, work.generation)
    return report


def _copied(source: str, target: str) -> bool:
    """Copy a database; return False if it cannot be read, or is empty."""
    if not os.path.exists(source) or not os.path.getsize(source):
        return False
    try:
        if backups.copy(source, target) is None:
            with contextlib.closing(sqlite3.connect(target)) as db:
                if schema_version(db, source):
                    return True
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # nothing is wrong with the file itself
            raise
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    return False


def _replace(state_dir: str, database: str, new: str, report: Rebuilt) -> None:
    """Put the new database in place. The old one's log must never be beside the new database."""
    found = [suffix for suffix in reversed(_SUFFIXES) if os.path.exists(database + suffix)]
    if found:
        aside = continuity.free_name(state_dir, "database")
        os.mkdir(aside, files.PRIVATE_DIR)
        for suffix in found:
            name = statedir.DATABASE + suffix
            os.rename(database + suffix, os.path.join(aside, name))
        report.replaced = os.path.join(aside, statedir.DATABASE)
    os.rename(new, database)
    files.sync_dir(state_dir)


class _Work:
    """The one transaction that brings the new database up to date."""

    def __init__(self, state_dir: str, store: Store, report: Rebuilt) -> None:
        self._state_dir = state_dir
        self._store = store
        self._report = report
        self._now = time.time()
        self._boot = jobdir.boot_id()
        # Higher than any version of the lost database: a client that resumes events misses none.
        store.jobs.skip_to(int(self._now * 1000))
        self.generation = 0

    def run(self, db: sqlite3.Connection) -> None:
        """Compare every record and every directory."""
        ids = continuity.job_ids(self._state_dir)
        known = records.ids(db)
        same_boot = records.get_meta(db, "boot_id") == self._boot
        for job_id in known:
            self._compare(db, records.get(db, job_id), same_boot, has_directory=job_id in ids)
        unrecorded = ids - known - records.removals(db)  # the next engine finishes removals
        for job in sorted(self._unrecorded(unrecorded), key=lambda each: each[0].created_at):
            self._add(db, *job)
        states, _ = records.totals(db)
        self._report.states.update(states)
        self.generation = continuity.next_generation(self._state_dir, db)

    def _compare(
        self, db: sqlite3.Connection, job: Job, same_boot: bool, *, has_directory: bool
    ) -> None:
        if job.state.final:
            if not has_directory:
                self._store.jobs.remove(db, [job.id])
                self._report.dropped.append(job.id)
            return
        directory = JobDir(self._state_dir, job.id)
        if not has_directory:
            self._save(db, _lost(job, self._now, _NO_DIRECTORY))
            return
        written = directory.record()
        if written is not None:
            same_boot = written.get("boot_id") == self._boot
        self._save(db, self._observed(directory, job, same_boot))

    def _unrecorded(self, ids: Iterable[str]) -> list[tuple[Job, dict[str, Any]]]:
        found = []
        for job_id in ids:
            directory = JobDir(self._state_dir, job_id)
            if directory.removed():  # its removal has begun; the next engine finishes it
                continue
            described = _described(directory)
            if described is None:
                aside = continuity.set_aside(self._state_dir, directory.path)
                self._report.aside += [aside] if aside is not None else []
            else:
                found.append(described)
        return found

    def _add(self, db: sqlite3.Connection, job: Job, written: dict[str, Any]) -> None:
        if job.owner == UNKNOWN_OWNER:
            self._report.unowned.append(job.id)
        key, spec_hash = written.get("idempotency_key"), written.get("spec_hash")
        if not isinstance(key, str) or records.by_key(db, job.owner, key) is not None:
            key = None
        self._store.jobs.insert(
            db,
            job,
            spec_hash=spec_hash if isinstance(spec_hash, str) else "",
            idempotency_key=key,
        )
        same_boot = written.get("boot_id") == self._boot
        directory = JobDir(self._state_dir, job.id)
        self._save(db, self._observed(directory, job, same_boot))
        self._report.made += 1

    def _observed(self, directory: JobDir, job: Job, same_boot: bool) -> Job:
        """Return the record, updated with what the directory shows."""
        asked = directory.wish()
        if asked is not None and job.kill is None:
            by, reason = _text(asked.get("by")), _text(asked.get("reason"))
            job = job.replaced(kill=KillRequest(by or UNKNOWN, reason))
        begun = job.replaced(state=State.RUNNING if job.kill is None else State.STOPPING)
        end = directory.exit()
        if end is not None:
            return begun.after(messages.end_change(end))
        if directory.claimed() is not None:
            pid = directory.pid()
            if pid is None:
                return begun
            return begun.replaced(pid=pid.pid, started_at=pid.started_at, enforced=pid.enforced)
        if job.kill is not None:
            return job.replaced(state=State.QUEUED).after(Change(Event.KILL, self._now))
        if not same_boot:
            return _lost(job, self._now, _RESTARTED)
        return job.replaced(state=State.QUEUED)

    def _save(self, db: sqlite3.Connection, job: Job) -> None:
        self._store.jobs.save(db, job)
        if job.state is State.QUEUED:
            dependents.restore(db, job)
        if job.state.final:
            size = JobDir(self._state_dir, job.id).disk_bytes()
            self._store.jobs.set_output_bytes(db, job.id, size)


def _lost(job: Job, at: float, why: str) -> Job:
    return job.replaced(state=State.RUNNING).after(
        Change(Event.END, at, Cause.LOST, reason=f"{why}; {UNOBSERVED}")
    )


def _described(directory: JobDir) -> tuple[Job, dict[str, Any]] | None:
    """Return the job of a directory and the content of record.json; None if there is no job."""
    claim = directory.claimed()
    written = directory.record()
    if written is None and claim is None:
        return None
    if written is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            return _job(directory.job_id, written), written
    claim = claim or {}
    created_at = directory.claimed_at() or time.time()
    run_as = _text(claim.get("run_as"))
    spec = _claimed_spec(directory, claim)
    job = Job(directory.job_id, UNKNOWN_OWNER, spec, State.QUEUED, created_at, run_as=run_as)
    return job, {}


def _job(job_id: str, written: dict[str, Any]) -> Job:
    owner, created_at = _text(written["owner"]), float(written["created_at"])
    return Job(
        job_id,
        owner or UNKNOWN_OWNER,
        _spec(written["spec"]),
        State.QUEUED,
        created_at,
        run_as=_text(written.get("run_as")),
    )


def _claimed_spec(directory: JobDir, claim: dict[str, Any]) -> JobSpec:
    """Return the spec of a claim, in the form that was sent to the supervisor."""
    told = dict(claim)
    stdin = told.get("stdin")
    if stdin == directory.file("stdin"):
        size = 0
        with contextlib.suppress(OSError):
            size = os.stat(stdin).st_size
        told["stdin"] = {"size": size}
    elif stdin is not None:
        told["stdin"] = {"file": str(stdin)}
    try:
        return _spec(told)
    except (KeyError, TypeError, ValueError, AttributeError):
        return JobSpec(_UNKNOWN_COMMAND)


def _spec(value: dict[str, Any]) -> JobSpec:
    known = {name: value[name] for name in vars(DEFAULT) if name in value}
    if not isinstance(known["command"], str):
        raise TypeError("the command is not a text")
    spec = JobSpec.from_stored(known)
    spec.to_dict()
    return spec


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
