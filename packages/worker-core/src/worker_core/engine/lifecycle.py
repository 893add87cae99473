"""A job's lifecycle, and which thread runs each step:

caller              `admit` gives a slot or a place in the queue, and asks the store for a record
committing thread   after the commit, sends the start to the executor
executor's reader   gets `started` and `exited`, and asks the store to record them
committing thread   after the commit, wakes the waiting threads, and gives the free slot to the
                    next job in the queue

The committing thread is the store's writer, or the caller if no other write is pending.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worker_core import failpoints, reconcile
from worker_core.alarm import Alarm
from worker_core.clock import Clock
from worker_core.disk import jobdir
from worker_core.disk.jobdir import Exit, JobDir
from worker_core.engine import messages
from worker_core.executor import Executor
from worker_core.linux import usage
from worker_core.model.errors import (
    JobNotFound,
    JobNotWaiting,
    QueueFull,
    StoreUnavailable,
    WorkerError,
)
from worker_core.model.job import Change, Job
from worker_core.model.state import UNOBSERVED, Cause, Event, State
from worker_core.notify import Notifier
from worker_core.queue import dependencies
from worker_core.queue.dependencies import Verdict
from worker_core.queue.gates import Gate
from worker_core.queue.job_queue import JobQueue
from worker_core.queue.waiting import Waiting
from worker_core.reconcile import Finding
from worker_core.settings import EngineSettings
from worker_core.store import records
from worker_core.store.dependents import Dependents, Edges, parent_of
from worker_core.store.store import Operation, Store

log = logging.getLogger(__name__)

_MOST_DEPENDENCIES = 1_000_000  # of all waiting jobs together; each takes some 200 bytes

_RESTARTED = "the end could not be observed: the machine was restarted"


@dataclass(frozen=True)
class Statistics:
    """Numbers about all jobs; `started` and `ended` count since the engine was opened."""

    by_state: dict[str, int]
    started: int
    ended: dict[str, int]
    output_bytes: int
    """Bytes on the disk of outputs, inputs and specs of finished jobs."""
    waiting: dict[str, int]
    """How many jobs wait for each gate; a job that waits for several counts for the first one."""


class Lifecycle:
    """Moves jobs from state to state. It is the `Listener` of the executor."""

    def __init__(
        self,
        state_dir: str,
        store: Store,
        executor: Executor,
        *,
        settings: EngineSettings,
        clock: Clock,
        touch: Callable[[str], None],
    ) -> None:
        """`touch` is called with the id of each job that has started or ended."""
        self.notifier = Notifier()
        self.recovered = threading.Event()
        self._state_dir = state_dir
        self._store = store
        self._executor = executor
        self._settings = settings
        self._clock = clock
        self._touch = touch
        self._lock = threading.Lock()  # guards the queue
        self._queue = JobQueue(
            settings.max_running, settings.max_running_per_owner, shares=settings.shares
        )
        self.dependents = Dependents(store, clock)
        self._children: dict[str, set[str]] = {}  # of jobs that others wait for; guarded as well
        self._alarm = Alarm(clock, self._next_time, self._ring)
        self._observed: list[tuple[Operation[Job], Callable[[Job], None]]] = []
        self._began: dict[str, float] = {}  # running job -> start in monotonic time
        self._begun = 0  # this and the next are written only by what follows a write
        self._ended: Counter[str] = Counter()
        # Jobs whose process has ended, until the store has recorded it. The value says why the
        # executor cannot record it; None if the store cannot record it (see `Store.fault`).
        self._unrecorded: dict[str, str | None] = {}
        self._same_boot = self._same_boot_as_before()
        self._load()

    # -- callers' threads --------------------------------------------------------------------------

    def admit(self, job: Job, record: Callable[[Store, sqlite3.Connection, State], Job]) -> Job:
        """Give a new job a slot or a place in the queue, and record it; raise QueueFull.

        `record` is called in a transaction of the store, with the first state of the job.
        """
        with self._lock:
            self._check_room(job)
            started = self._queue.admit(self._waiting(job), self._clock.now())
            state = State.RUNNING if started else State.QUEUED
            # Inside the lock: as soon as it is released, another thread may give this job a slot.
            # The store must get the write for that after this one.
            write = self._store.write(lambda db: record(self._store, db, state), self.accepted)
        if not started:
            self._alarm.look()
        return write.result()

    def check_room(self, job: Job) -> None:
        """Raise QueueFull if this job would be refused now."""
        with self._lock:
            self._check_room(job)

    def _check_room(self, job: Job) -> None:
        why = self._no_room(job)
        if why is not None and not self._queue.would_start(_waiting(job), self._clock.now()):
            raise QueueFull(why)

    def _no_room(self, job: Job) -> str | None:
        """Return why this job is refused unless it starts at once; None if it may wait."""
        owner = job.owner
        if self._queue.dependencies + len(job.spec.after) > _MOST_DEPENDENCIES:
            why = f"the jobs that wait have {self._queue.dependencies} dependencies already"
            return f"{why}; try again when some have started"
        waiting, own = self._queue.queued, self._queue.queued_of(owner)
        most = self._settings.max_queued_per_owner
        if waiting >= self._settings.max_queued or (most and own >= most):
            whose = "" if waiting >= self._settings.max_queued else f" of {owner}"
            number = own if whose else waiting
            full = f"{number} jobs{whose} are queued already" if number else "all slots are taken"
            return f"{full}; try again when some have ended"
        return None

    def update(self, job: Job, changes: Mapping[str, Any]) -> Job:
        """Change fields of a waiting job's `let_wait`, and record that; raise JobNotWaiting.

        On return the job may have started because of the change.
        """

        def record(db: sqlite3.Connection) -> Job:
            found = self._store.jobs.current(db, job.id)
            if found.state is not State.QUEUED:
                raise JobNotWaiting(found)
            waits = dataclasses.replace(found.let_wait, **changes)
            return self._store.jobs.save(db, found.replaced(waits=waits))

        # Inside the lock: if the job starts because of this change, the store must record the start
        # after the change; if another thread started it first, the store must record that before.
        with self._lock:
            if not self._queue.waits(job.id):
                raise JobNotWaiting(self._store.job(job.id))
            write = self._store.write(record, self.notifier.publish)
            ready = self._queue.update(job.id, changes, self._clock.now())
            for each in ready:
                self._dispatch(each)
        self._alarm.look()
        try:
            return write.result()
        except StoreUnavailable:
            with self._lock:
                self._queue.update(job.id, vars(job.let_wait), self._clock.now())
            raise

    def close(self) -> None:
        """Stop the alarm: no more jobs are started because their time has come."""
        self._alarm.close()

    def _next_time(self) -> float | None:
        with self._lock:
            return self._queue.next_time()

    def _ring(self) -> None:
        with self._lock:
            ready = self._queue.tick(self._clock.now())
        for each in ready:
            self._dispatch(each)

    def release(self, job_id: str) -> None:
        """Take back the slot or the place in the queue of a job; start the next one."""
        with self._lock:
            for parent, _ in self._queue.pending(job_id):
                self._forget_child(parent, job_id)
            ready = self._queue.withdraw(job_id)
        for each in ready:
            self._dispatch(each)

    def release_unless_recorded(self, job_id: str) -> None:
        """Release a job whose `admit` was interrupted, unless its record was written.

        The store works in order: it looks for the record after it has done the write of `admit`.
        """

        def recorded(db: sqlite3.Connection) -> bool:
            try:
                records.get(db, job_id)
            except JobNotFound:
                return False
            return True

        self._store.post((recorded, lambda found: None if found else self.release(job_id)))

    def with_usage(self, job: Job) -> Job:
        """Return the record of a job. For a running job, add what it has used so far."""
        if job.state not in (State.RUNNING, State.STOPPING):
            return job
        directory = JobDir(self._state_dir, job.id)
        return job.replaced(usage=usage.live(job, directory, self._clock.monotonic()))

    def with_duration(self, job: Job) -> Job:
        """Return the record of a job. For a running job, add how long it has run."""
        began = None if job.state.final else self._began.get(job.id)
        if began is None:
            return job
        return job.replaced(duration=max(self._clock.monotonic() - began, 0.0))

    def with_reason(self, job: Job) -> Job:
        """Return the record, and add why the job is queued, or how long it has run."""
        if job.state is not State.QUEUED:
            return self._held_back(self.with_duration(job))
        with self._lock:
            closed = self._queue.closed(job.id)
        reason = closed[0].text if closed else "about to start"
        return job.replaced(reason=reason, waiting=closed)

    def _held_back(self, job: Job) -> Job:
        """Return the record; its state is stopping while the end of its process is not recorded.

        The outcome is shown only once it is recorded: before that, a crash could still change it.
        """
        if job.state.final or job.id not in self._unrecorded:
            return job
        why = self._unrecorded[job.id] or self._store.fault
        if why is None:  # it is being recorded right now
            return job
        reason = f"its process has ended, but that cannot be recorded yet: {why}"
        return job.replaced(state=State.STOPPING, reason=reason)

    def statistics(self, by_state: dict[str, int], output_bytes: int) -> Statistics:
        """Return the numbers; the two arguments come from the store."""
        shown = {state.value: by_state.get(state.value, 0) for state in State}
        ended = {state.value: self._ended[state.value] for state in State if state.final}
        with self._lock:
            gates = self._queue.waiting_by_gate()
        waiting = {gate.value: gates[gate] for gate in Gate}
        return Statistics(shown, self._begun, ended, output_bytes, waiting)

    def counts(self) -> dict[str, int]:
        """Return how many jobs are running and how many are queued."""
        with self._lock:
            return {"running": self._queue.running, "queued": self._queue.queued}

    def kill(self, job: Job) -> None:
        """Have the executor end a job, by the kill in its record."""
        if job.kill is not None:
            self._executor.kill(job.id, job.kill)

    # -- what follows a write, in the thread that made the commit ----------------------------------

    def accepted(self, job: Job) -> None:
        """Handle a job that was recorded, now or by an earlier request with the same key."""
        if job.state is State.RUNNING and job.started_at is None:
            self._begin(job)
        elif job.state is State.QUEUED:
            self.notifier.publish(job)
            self._look_at_dependencies(job)
        elif job.state is State.SKIPPED:
            with self._lock:
                is_new = self._queue.waits(job.id)
            if is_new:
                self.changed(job)

    def changed(self, job: Job) -> None:
        """Handle a record that now says that the job has started or ended."""
        todo = deque([job])
        while todo:
            job = todo.popleft()
            self._changed(job)
            if job.state.final:
                todo.extend(self._open_dependents(job))

    def _changed(self, job: Job) -> None:
        if job.state.final:
            self._ended[job.state.value] += 1
            self._began.pop(job.id, None)
            self._unrecorded.pop(job.id, None)
            failpoints.point("engine.exit_committed")
            # First: a thread that is notified of the end must find the slot free.
            self.release(job.id)
        self.notifier.publish(job)
        self._touch(job.id)

    def _look_at_dependencies(self, job: Job) -> None:
        """Let a new job start if all its dependencies are already fulfilled."""
        with self._lock:
            before = self._queue.pending(job.id)
        if not before:
            return
        pending = self.dependents.pending_of(job.id)
        with self._lock:
            for parent, when in before - pending:
                self._queue.fulfil(job.id, parent, when)
            for parent in {each for each, _ in before} - {each for each, _ in pending}:
                self._forget_child(parent, job.id)
            ready = self._queue.ready()
        for each in ready:
            self._dispatch(each)

    def _open_dependents(self, job: Job) -> list[Job]:
        """Let the jobs start that waited for the start or end of a job; return the skipped jobs.

        The transaction that recorded that start or end has recorded these changes too.
        """
        if job.id not in self._children:  # a job that comes now looks at the record of this one
            return []
        parent = parent_of(job)
        never = []
        with self._lock:
            children = self._children.get(job.id, set())
            if parent.state.final:
                self._children.pop(job.id, None)
            for child in children:
                for waits_for, when in self._queue.pending(child):
                    verdict = dependencies.verdict(when, parent) if waits_for == job.id else None
                    if verdict is Verdict.OPEN:
                        self._queue.fulfil(child, job.id, when)
                    elif verdict is Verdict.NEVER:
                        never.append(child)
            ready = self._queue.ready() if children else []
        for each in ready:
            self._dispatch(each)
        return self._skipped(never)

    def _forget_child(self, parent: str, child: str) -> None:
        children = self._children.get(parent, set())
        children.discard(child)
        if not children:
            self._children.pop(parent, None)

    def _skipped(self, job_ids: list[str]) -> list[Job]:
        """Return the jobs that are recorded as skipped.

        The others have no record yet: the transaction that makes their record will skip them.
        """
        found = []
        for job_id in dict.fromkeys(job_ids):
            with contextlib.suppress(JobNotFound):
                job = self._store.job(job_id)
                if job.state is State.SKIPPED:
                    found.append(job)
        return found

    def _waiting(self, job: Job, after: Edges | None = None) -> Waiting:
        """Return a job as the queue knows it, and note the jobs that it waits for."""
        waiting = _waiting(job)
        if after is not None:
            waiting.after = after
        for parent, _ in waiting.after:
            self._children.setdefault(parent, set()).add(job.id)
        return waiting

    def _begin(self, job: Job) -> None:
        self.notifier.publish(job)
        self._open_dependents(job)
        self._begun += 1
        self._executor.start(job.id, messages.start_message(self._state_dir, job, self._settings))
        failpoints.point("engine.after_start_sent")

    # -- any thread --------------------------------------------------------------------------------

    def _dispatch(self, job_id: str) -> None:
        change = Change(Event.DISPATCH, self._clock.now())

        def dispatch(db: sqlite3.Connection) -> Job:
            return records.complete(db, self.dependents.change(db, job_id, change))

        self._store.post((dispatch, self._begin))

    # -- the executor's thread ---------------------------------------------------------------------

    def started(self, job_id: str, pid: int, at: float, enforced: Mapping[str, str | None]) -> None:
        """Record that the job's process runs."""
        now = self._clock.monotonic()
        self._began.setdefault(job_id, now - max(self._clock.now() - at, 0.0))
        change = Change(Event.STARTED, at, pid=pid, enforced=enforced)
        self._observe(job_id, change)

    def exited(self, job_id: str, end: Exit) -> None:
        """Record that the job has ended."""
        failpoints.point("engine.exit_received")
        self._unrecorded[job_id] = None  # the executor has recorded it
        self._observe(job_id, messages.end_change(end))

    def unrecorded(self, job_id: str, why: str) -> None:
        """Note that the process has ended, but the executor cannot record that yet."""
        self._unrecorded[job_id] = why

    def caught_up(self) -> None:
        """Write what was observed to the store, in one transaction."""
        observed, self._observed = self._observed, []
        if observed:
            self._store.post(*observed, urgent=True)

    def connected(self) -> None:
        """Ask the executor, which is connected (again), about every job that should be running."""
        with self._store.reading() as db:
            jobs = [job for job in records.active(db) if job.state is not State.QUEUED]
        self._executor.query([job.id for job in jobs])

    def known(self, jobs: dict[str, dict[str, Any]]) -> None:
        """Reconcile each job with what the executor knows of it, then use the free slots."""
        for job_id, found in jobs.items():
            try:
                with self._store.reading() as db:
                    job = records.complete(db, records.get(db, job_id))
            except JobNotFound:  # it was removed meanwhile
                continue
            if job.state in (State.RUNNING, State.STOPPING):
                self._settle(job, found)
        self.caught_up()
        with self._lock:
            ready = self._queue.ready()
        for each in ready:
            self._dispatch(each)
        if not self.recovered.is_set():
            # Write the boot id last. If we crash before this, the next engine must still treat
            # these jobs as started in the previous boot.
            self._remember_boot()
            self._same_boot = True
        self.recovered.set()
        self._alarm.look()

    def _observe(self, job_id: str, change: Change) -> None:
        """Keep a change until `caught_up`, which writes all of them together."""

        def record(db: sqlite3.Connection) -> Job:
            try:
                job = self.dependents.change(db, job_id, change)
            except WorkerError:  # it is recorded already, or the job was removed
                self._unrecorded.pop(job_id, None)
                raise
            size = JobDir(self._state_dir, job_id).disk_bytes() if job.state.final else 0
            if size:
                self._store.jobs.set_output_bytes(db, job_id, size)
            return job

        self._observed.append((record, self.changed))

    def _settle(self, job: Job, found: dict[str, Any]) -> None:
        now = self._clock.now()
        if "unrecorded" in found:
            self.unrecorded(job.id, found["unrecorded"])
        signum, grace = messages.kill_demand(job)
        finding = reconcile.compare(
            job.state, found, same_boot=self._same_boot, signum=signum, grace=grace
        )
        log.debug("job %s: %s", job.id, finding.name)
        match finding:
            case Finding.ENDED:
                self.exited(job.id, Exit.from_dict(found["exit"]))
            case Finding.FOLLOW:
                self._follow(job, found["running"])
            case Finding.KILL_AGAIN:
                self._follow(job, found["running"])
                self.kill(job)
            case Finding.START:
                self._begin(job)
            case Finding.CANCEL:
                self._observe(job.id, Change(Event.END, now, Cause.KILL))
            case Finding.LOSE:
                reason = f"{_RESTARTED}; {UNOBSERVED}"
                self._observe(job.id, Change(Event.END, now, Cause.LOST, reason=reason))

    def _follow(self, job: Job, pid: dict[str, Any] | None) -> None:
        if pid is None:
            return
        if pid["start_time"]:  # 0 until the supervisor has looked it up
            self._began[job.id] = usage.since_boot(pid["start_time"])
        if job.started_at is None:
            self.started(job.id, pid["pid"], pid["started_at"], pid.get("enforced", {}))

    # -- construction ------------------------------------------------------------------------------

    def _same_boot_as_before(self) -> bool:
        """Return whether the machine has not restarted since the last engine finished recovery."""
        with self._store.reading() as db:
            return records.get_meta(db, "boot_id") in (None, jobdir.boot_id())

    def _remember_boot(self) -> None:
        boot = jobdir.boot_id()
        self._store.post((lambda db: records.set_meta(db, "boot_id", boot), None))

    def _load(self) -> None:
        """Give each unfinished job in the store its slot or its place in the queue."""
        self.dependents.look_again()
        with self._store.reading() as db:
            pending = self.dependents.pending(db)
            for job in records.active(db):
                if job.state is State.QUEUED:
                    waiting = self._waiting(job, pending.get(job.id, set()))
                    self._queue.enqueue(waiting, self._clock.now())
                else:
                    self._queue.occupy(_waiting(job))


def _waiting(job: Job) -> Waiting:
    """Return what the queue needs to know of a job."""
    waits = job.spec if job.waits is None else job.waits
    after = {(each.job, each.when) for each in job.spec.after}
    return Waiting(
        job.id,
        job.owner,
        waits.priority,
        waits.hold,
        waits.start_after,
        after,
        len(after),
        lock=job.spec.lock,
    )
