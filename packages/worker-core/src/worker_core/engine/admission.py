"""Admission: whether a new job is accepted, and everything that is written down for it.

The order matters, because the engine may end between any two steps:

    refuse      what the executor cannot enforce, a full queue, a disk without space
    directory   the job's input, and what its record can be made from should the database be lost
    admit       a slot or a place in the queue, and the record; with its commit the job is accepted

A directory without a record is what a crash leaves; the next engine clears it away.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import uuid
from dataclasses import dataclass

from worker_core.clock import Clock
from worker_core.disk import files, jobdir, reserve
from worker_core.disk.jobdir import JobDir
from worker_core.engine import rebuild
from worker_core.engine.lifecycle import Lifecycle
from worker_core.executor import Executor
from worker_core.model.errors import (
    IdempotencyKeyReused,
    InvalidRequest,
    InvalidSpec,
    QueueFull,
    StoreUnavailable,
    WorkerError,
)
from worker_core.model.job import Job
from worker_core.model.spec import DEFAULT, JobSpec
from worker_core.model.state import State
from worker_core.store import records
from worker_core.store.dependents import Dependents
from worker_core.store.store import Store

_MAX_TEXT = 255  # characters of an owner or an idempotency key
_DEFAULT = DEFAULT.to_dict()
_SORTED = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True)
class Submission:
    """A job that may be accepted, and what is stored beside its record."""

    job: Job
    spec_hash: str
    idempotency_key: str | None
    dependents: Dependents

    def record(self, store: Store, db: sqlite3.Connection, state: State) -> Job:
        """Insert the record, or return the earlier job with the same key; inside a transaction."""
        earlier = self.earlier(db)
        if earlier is not None:
            return earlier
        self.dependents.check(db, self.job)
        job = store.jobs.insert(
            db,
            self.job.replaced(state=state),
            spec_hash=self.spec_hash,
            idempotency_key=self.idempotency_key,
        )
        return self.dependents.record(db, job)

    def earlier(self, db: sqlite3.Connection) -> Job | None:
        """Return the job that has the same key and owner; raise IdempotencyKeyReused."""
        key = self.idempotency_key
        found = None if key is None else records.by_key(db, self.job.owner, key)
        if key is None or found is None:
            return None
        job, spec_hash = found
        if spec_hash != self.spec_hash:
            raise IdempotencyKeyReused(key)
        return job


class Admission:
    """Accepts or refuses new jobs. Any thread may use it."""

    def __init__(
        self,
        state_dir: str,
        store: Store,
        executor: Executor,
        jobs: Lifecycle,
        reserve: reserve.Reserve,
        *,
        clock: Clock,
        output_limit: int,
        durable: bool,
    ) -> None:
        """`output_limit` is for specs that have none; `durable` jobs survive this process."""
        self._state_dir = state_dir
        self._store = store
        self._executor = executor
        self._jobs = jobs
        self._reserve = reserve
        self._clock = clock
        self._output_limit = output_limit
        self._durable = durable
        self._boot = jobdir.boot_id()

    def submit(self, spec: JobSpec, owner: str, key: str | None, run_as: str | None) -> Job:
        """Accept a job; see `Engine.submit`."""
        check_text("owner", owner)
        if key is not None:
            check_text("idempotency key", key)
        if run_as is not None:
            check_text("account", run_as)
        if missing := list(self._executor.unenforceable(spec)):
            raise InvalidSpec(missing)
        bounded = spec.bounded(self._output_limit)
        now = self._clock.now()
        job = Job(str(uuid.uuid4()), owner, bounded, State.QUEUED, now, run_as=run_as)
        submission = Submission(job, _hash(spec), key, self._jobs.dependents)
        try:
            self._check_disk()
            # `Lifecycle.admit` decides. Asking before costs nothing, and saves a refused request
            # from writing files first.
            self._jobs.check_room(job)
            return self._admit(submission)
        except (QueueFull, StoreUnavailable):
            earlier = self._earlier(submission)
            if earlier is None:
                raise
            return earlier

    def _admit(self, submission: Submission) -> Job:
        """Make the job's directory and record the job; leave nothing behind if that fails."""
        job = submission.job
        try:
            self._make_dir(submission)
            accepted = self._jobs.admit(job, submission.record)
        except OSError as error:
            self._discard(job.id)
            raise StoreUnavailable(f"cannot store the job: {error}") from error
        except WorkerError:
            self._discard(job.id)
            raise
        except KeyboardInterrupt:
            self._jobs.release_unless_recorded(job.id)
            raise
        if accepted.id != job.id:
            self._discard(job.id)
        return accepted

    def _make_dir(self, submission: Submission) -> None:
        job = submission.job
        directory = JobDir(self._state_dir, job.id)
        os.mkdir(directory.path, files.PRIVATE_DIR)
        if self._durable:
            spec_hash, key = submission.spec_hash, submission.idempotency_key
            directory.write_record(rebuild.described(job, spec_hash, key, self._boot))
        if isinstance(job.spec.stdin, bytes):
            files.create(directory.file("stdin"), job.spec.stdin, sync=self._durable)
            if self._durable:  # the names as well: the supervisor cannot make this file again
                files.sync_dir(directory.path)
                files.sync_dir(os.path.dirname(directory.path))

    def _discard(self, job_id: str) -> None:
        """Remove what was prepared for a job that is not accepted, or is an earlier job."""
        JobDir(self._state_dir, job_id).remove()
        self._jobs.release(job_id)

    def _earlier(self, submission: Submission) -> Job | None:
        if submission.idempotency_key is None:
            return None
        with self._store.reading() as db, records.one_moment(db):
            return submission.earlier(db)

    def _check_disk(self) -> None:
        """Raise StoreUnavailable if the space that is left is reserved for the ends of jobs."""
        if not self._reserve.kept():
            fault = reserve.disk_fault(self._state_dir) or "the disk was full a moment ago"
            raise StoreUnavailable(f"cannot store: {fault}; {reserve.CURE}")


def check_text(what: str, text: str) -> None:
    """Raise InvalidRequest unless a text can be stored as an owner, a key or an account."""
    if not text or len(text) > _MAX_TEXT or records.printable(text) != text:
        raise InvalidRequest(f"the {what} must be a text of 1 to {_MAX_TEXT} characters")


def _hash(spec: JobSpec) -> str:
    """Return a hash that is the same for equal specs, in every release.

    Fields that have their default are left out, because a later release has more fields.
    """
    stdin = spec.stdin if isinstance(spec.stdin, bytes) else b""
    given = {name: each for name, each in spec.to_dict().items() if each != _DEFAULT[name]}
    shown = _SORTED.encode(given).encode()
    return hashlib.sha256(shown + hashlib.sha256(stdin).digest()).hexdigest()
