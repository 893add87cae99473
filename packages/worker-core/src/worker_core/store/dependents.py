"""The jobs that wait for other jobs, in the store. All functions run inside a transaction.

The transaction that records the start or the end of a job also records which jobs may start because
of it, and skips the jobs that can never start. So a crash cannot separate cause and effect.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable

from worker_core.clock import Clock
from worker_core.model.errors import FieldError, InvalidSpec, JobNotFound, WorkerError
from worker_core.model.job import Change, Job
from worker_core.model.state import Event, State
from worker_core.model.waiting.after import When
from worker_core.queue import dependencies
from worker_core.queue.dependencies import Consequences, Edge, Parent, Verdict
from worker_core.store import records
from worker_core.store.records import QUERIES
from worker_core.store.store import Store

Edges = set[tuple[str, When]]  # a job, and the state that it must reach


def parent_of(job: Job) -> Parent:
    """Return the state of a job in the form that the jobs that wait for it need."""
    # Only the time of its start shows whether a killed job had a slot.
    had_slot = job.state not in (State.QUEUED, State.SKIPPED, State.KILLED)
    started = had_slot or job.started_at is not None
    return Parent(job.id, job.state, started, job.exit_code, job.signal)


class Dependents:
    """Records which job waits for which, and what follows from a start or an end."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        with store.reading() as db:
            # Most servers have no dependencies; for these, nothing is read.
            self._used = db.execute(QUERIES["any_dependency"]).fetchone() is not None

    def check(self, db: sqlite3.Connection, job: Job) -> None:
        """Raise InvalidSpec if a new job depends on a job that its owner does not have."""
        wrong = []
        for at, each in enumerate(job.spec.after):
            try:
                owner = self._store.jobs.current(db, each.job).owner
            except JobNotFound:
                owner = None
            if owner != job.owner:
                wrong.append(FieldError(f"after[{at}].job", f"you have no job with id {each.job}"))
        if wrong:
            raise InvalidSpec(wrong)

    def record(self, db: sqlite3.Connection, job: Job) -> Job:
        """Record the dependencies of a new job, after `check`; skip it if it can never start."""
        if not job.spec.after:
            return job
        self._used = True
        rows = []
        for each in job.spec.after:
            parent = parent_of(self._store.jobs.current(db, each.job))
            verdict = dependencies.verdict(each.when, parent)
            if verdict is Verdict.NEVER:
                reason = dependencies.why_skipped(parent)
                return self._store.jobs.change(db, job.id, self._skip(reason))
            rows.append((job.id, each.job, each.when.value, verdict is Verdict.OPEN))
        db.executemany(QUERIES["insert_dependency"], rows)
        return job

    def change(self, db: sqlite3.Connection, job_id: str, change: Change) -> Job:
        """Apply a change to a job, and record what follows for the jobs that wait for it.

        Raises JobNotFound or IllegalTransition, having written nothing.
        """
        job = self._store.jobs.change(db, job_id, change)
        if self._used:
            if job.state is not State.QUEUED:
                db.execute(QUERIES["delete_dependencies"], {"child": job_id})
            if change.event is Event.DISPATCH or job.state.final:
                self._settle(db, parent_of(job))
        return job

    def look_again(self) -> None:
        """Check every job that others wait for, in case a crash or a rebuild has lost something."""
        if self._used:
            self._store.write(self._look_again).result()

    def _look_again(self, db: sqlite3.Connection) -> None:
        for (job_id,) in db.execute(QUERIES["parents_to_look_at"]).fetchall():
            try:
                parent = parent_of(self._store.jobs.current(db, job_id))
            except JobNotFound:
                parent = Parent(job_id, State.SKIPPED, words="is no longer known")
            self._settle(db, parent)

    def first_of(self, job_id: str) -> str | None:
        """Return a job that waits for the given one, None if there is none; as committed."""
        with self._store.reading() as db:
            row = db.execute(QUERIES["one_dependent"], {"parent": job_id}).fetchone()
        return None if row is None else str(row[0])

    def pending(self, db: sqlite3.Connection) -> dict[str, Edges]:
        """Return the unfulfilled dependencies of each waiting job."""
        found: dict[str, Edges] = {}
        for child, parent, condition in db.execute(QUERIES["pending_dependencies"]):
            found.setdefault(child, set()).add((parent, When(condition)))
        return found

    def pending_of(self, job_id: str) -> Edges:
        """Return the unfulfilled dependencies of one job, as committed."""
        if not self._used:
            return set()
        with self._store.reading() as db:
            rows = db.execute(QUERIES["pending_dependencies_of"], {"child": job_id}).fetchall()
        return {(parent, When(condition)) for parent, condition in rows}

    def _settle(self, db: sqlite3.Connection, parent: Parent) -> Consequences:
        def waiting_for(job_id: str) -> Iterable[Edge]:
            rows = db.execute(QUERIES["dependents"], {"parent": job_id}).fetchall()
            return [Edge(child, job_id, When(condition)) for child, condition in rows]

        found = dependencies.consequences(parent, waiting_for)
        for edge in found.opened:
            values = {"child": edge.child, "parent": edge.parent, "condition": edge.when.value}
            db.execute(QUERIES["fulfil_dependency"], values)
        for child, reason in found.skipped.items():
            with contextlib.suppress(WorkerError):  # it waits no longer
                self._store.jobs.change(db, child, self._skip(reason))
            db.execute(QUERIES["delete_dependencies"], {"child": child})
        return found

    def _skip(self, reason: str) -> Change:
        return Change(Event.SKIP, self._clock.now(), reason=reason)


def restore(db: sqlite3.Connection, job: Job) -> None:
    """Record the dependencies of a waiting job again, from its spec; for a lost database."""
    spec = records.complete(db, job).spec
    rows = [(job.id, each.job, each.when.value, False) for each in spec.after]
    db.executemany(QUERIES["insert_dependency"], rows)
