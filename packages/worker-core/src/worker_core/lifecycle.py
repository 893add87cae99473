"""The way of a job from accepted to ended, and the thread that runs each step of it:

caller              admit: a slot or a place in the queue, and the record for the store
store's writer      after the commit, the start goes to the executor
the executor's      started and exited come back, and go to the store as they come
store's writer      after the commit, who waits is woken, and a free slot goes to the next job
"""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worker_core import failpoints, reconcile
from worker_core.alarm import Alarm
from worker_core.clock import Clock
from worker_core.disk import jobdir
from worker_core.disk.jobdir import Exit, JobDir
from worker_core.executor import Executor
from worker_core.linux import usage
from worker_core.model import signals
from worker_core.model.errors import (
    JobNotFound,
    JobNotWaiting,
    QueueFull,
    StoreUnavailable,
    WorkerError,
)
from worker_core.model.job import Change, Job
from worker_core.model.kill import KillRequest
from worker_core.model.state import Cause, Event, State
from worker_core.notify import Notifier
from worker_core.queue.job_queue import JobQueue
from worker_core.queue.waiting import Waiting
from worker_core.reconcile import Finding
from worker_core.settings import EngineSettings
from worker_core.store import records
from worker_core.store.store import Operation, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Statistics:
    """Numbers about all jobs; `started` and `ended` count from the engine's beginning."""

    by_state: dict[str, int]
    started: int
    ended: dict[str, int]
    output_bytes: int
    """Bytes of outputs, inputs and specs of finished jobs, as the disk counts them."""


class Lifecycle:
    """Moves jobs from state to state; what the executor's thread tells comes here (`Listener`)."""

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
        self._alarm = Alarm(clock, self._next_time, self._ring)
        self._observed: list[tuple[Operation[Job], Callable[[Job], None]]] = []
        self._began: dict[str, float] = {}  # of running jobs, in monotonic time
        self._begun = 0  # this and the next are only written by the store's writer thread
        self._ended: Counter[str] = Counter()
        # Jobs whose process has ended, until that is in the store; and why it is not, if the
        # executor cannot record it. What the store cannot take is `Store.fault`.
        self._unrecorded: dict[str, str | None] = {}
        self._same_boot = self._same_boot_as_before()
        self._load()

    # -- callers' threads --------------------------------------------------------------------------

    def admit(self, job: Job, insertion: Callable[[State], Operation[Job]]) -> Job:
        """Give a new job a slot or a place in the queue, and record it; raise QueueFull.

        `insertion` makes the write for the state that the job begins in.
        """
        with self._lock:
            self._check_room(job)
            started = self._queue.admit(_waiting(job), self._clock.now())
            state = State.RUNNING if started else State.QUEUED
            # In the lock: a slot that is free a moment later may be given to this job, and what
            # records that must come to the store after this.
            write = self._store.write(insertion(state), self.accepted)
        if not started:
            self._alarm.look()
        return write.result()

    def check_room(self, job: Job) -> None:
        """Raise QueueFull if this job would not be admitted now."""
        with self._lock:
            self._check_room(job)

    def _check_room(self, job: Job) -> None:
        owner = job.owner
        if self._queue.would_start(_waiting(job), self._clock.now()):
            return
        waiting, own = self._queue.queued, self._queue.queued_of(owner)
        most = self._settings.max_queued_per_owner
        if waiting >= self._settings.max_queued or (most and own >= most):
            whose = "" if waiting >= self._settings.max_queued else f" of {owner}"
            number = own if whose else waiting
            full = f"{number} jobs{whose} wait already" if number else "all slots are taken"
            raise QueueFull(f"{full}; try again when some have ended")

    def update(self, job: Job, changes: Mapping[str, Any]) -> Job:
        """Change fields of `let_wait` of a waiting job, and record that; raise JobNotWaiting.

        On return it may have started because of that.
        """

        def record(db: sqlite3.Connection) -> Job:
            found = self._store.jobs.current(db, job.id)
            if found.state is not State.QUEUED:
                raise JobNotWaiting(found)
            waits = dataclasses.replace(found.let_wait, **changes)
            return self._store.jobs.save(db, found.replaced(waits=waits))

        # In the lock: a job that starts because of this, or instead of it, starts after or before
        # in the store, too.
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
        """Let no more jobs start because their time has come."""
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
        """Take back the slot or the place of a job; the next one begins."""
        with self._lock:
            ready = self._queue.withdraw(job_id)
        for each in ready:
            self._dispatch(each)

    def release_unless_recorded(self, job_id: str) -> None:
        """Take back the slot or the place of a job whose `admit` was interrupted, if it never was.

        What was asked of the store before comes before this.
        """

        def recorded(db: sqlite3.Connection) -> bool:
            try:
                records.get(db, job_id)
            except JobNotFound:
                return False
            return True

        self._store.post((recorded, lambda found: None if found else self.release(job_id)))

    def with_usage(self, job: Job) -> Job:
        """Return the record of a running job with what it has used up to now."""
        if job.state not in (State.RUNNING, State.STOPPING):
            return job
        directory = JobDir(self._state_dir, job.id)
        return job.replaced(usage=usage.live(job, directory, self._clock.monotonic()))

    def with_duration(self, job: Job) -> Job:
        """Return the record of a running job with how long it has run."""
        began = None if job.state.final else self._began.get(job.id)
        if began is None:
            return job
        return job.replaced(duration=max(self._clock.monotonic() - began, 0.0))

    def with_reason(self, job: Job) -> Job:
        """Return the record, saying why it waits if it does, or how long it has run."""
        if job.state is not State.QUEUED:
            return self._held_back(self.with_duration(job))
        with self._lock:
            closed = self._queue.closed(job.id)
        reason = closed[0].text if closed else "about to start"
        return job.replaced(reason=reason, waiting=closed)

    def _held_back(self, job: Job) -> Job:
        """Return the record; if its process has ended unrecorded, as stopping, with the reason.

        How it has ended is told when it is recorded, since only then it is certain to stay so.
        """
        if job.state.final or job.id not in self._unrecorded:
            return job
        why = self._unrecorded[job.id] or self._store.fault
        if why is None:  # it is being recorded in this moment
            return job
        reason = f"its process has ended, but that cannot be recorded yet: {why}"
        return job.replaced(state=State.STOPPING, reason=reason)

    def statistics(self, by_state: dict[str, int], output_bytes: int) -> Statistics:
        """Return numbers, of which the store knows two."""
        shown = {state.value: by_state.get(state.value, 0) for state in State}
        ended = {state.value: self._ended[state.value] for state in State if state.final}
        return Statistics(shown, self._begun, ended, output_bytes)

    def counts(self) -> dict[str, int]:
        """Return how many jobs run and how many wait."""
        with self._lock:
            return {"running": self._queue.running, "queued": self._queue.queued}

    def transition(self, job_id: str, change: Change) -> Callable[[sqlite3.Connection], Job]:
        """Return the write that applies a change."""
        return lambda db: self._store.jobs.change(db, job_id, change)

    def kill(self, job: Job) -> None:
        """Have a job ended as its record says."""
        if job.kill is not None:
            self._executor.kill(job.id, job.kill)

    # -- the store's writer thread, after a commit -------------------------------------------------

    def accepted(self, job: Job) -> None:
        """A job was recorded, now or by an earlier request with the same key."""
        if job.state is State.RUNNING and job.started_at is None:
            self._begin(job)
        elif job.state is State.QUEUED:
            self.notifier.publish(job)

    def changed(self, job: Job) -> None:
        """A job has started or ended."""
        if job.state.final:
            self._ended[job.state.value] += 1
            self._began.pop(job.id, None)
            self._unrecorded.pop(job.id, None)
            failpoints.point("engine.exit_committed")
            self.release(job.id)  # before anybody is told: who was told finds the slot free
        self.notifier.publish(job)
        self._touch(job.id)

    def _begin(self, job: Job) -> None:
        self.notifier.publish(job)
        self._begun += 1
        self._executor.start(job.id, _start_message(self._state_dir, job, self._settings))
        failpoints.point("engine.after_start_sent")

    # -- any thread --------------------------------------------------------------------------------

    def _dispatch(self, job_id: str) -> None:
        change = Change(Event.DISPATCH, self._clock.now())

        def dispatch(db: sqlite3.Connection) -> Job:
            return records.complete(db, self._store.jobs.change(db, job_id, change))

        self._store.post((dispatch, self._begin))

    # -- the executor's thread ---------------------------------------------------------------------

    def started(self, job_id: str, pid: int, at: float, enforced: Mapping[str, str | None]) -> None:
        """The job's process runs."""
        now = self._clock.monotonic()
        self._began.setdefault(job_id, now - max(self._clock.now() - at, 0.0))
        change = Change(Event.STARTED, at, pid=pid, enforced=enforced)
        self._observe(job_id, change)

    def exited(self, job_id: str, end: Exit) -> None:
        """The job has ended."""
        failpoints.point("engine.exit_received")
        self._unrecorded[job_id] = None  # the executor has recorded it
        self._observe(job_id, ending(end))

    def unrecorded(self, job_id: str, why: str) -> None:
        """The job's process has ended, which the executor cannot record yet."""
        self._unrecorded[job_id] = why

    def caught_up(self) -> None:
        """Nothing else is to be told now."""
        observed, self._observed = self._observed, []
        if observed:
            self._store.post(*observed, urgent=True)

    def connected(self) -> None:
        """The executor is there (again): ask it about every job that should run."""
        with self._store.reading() as db:
            jobs = [job for job in records.active(db) if job.state is not State.QUEUED]
        self._executor.query([job.id for job in jobs])

    def known(self, jobs: dict[str, dict[str, Any]]) -> None:
        """Settle each job by what the executor knows of it, then give out what slots are free."""
        for job_id, found in jobs.items():
            try:
                with self._store.reading() as db:
                    job = records.complete(db, records.get(db, job_id))
            except JobNotFound:  # removed since it was asked for
                continue
            if job.state in (State.RUNNING, State.STOPPING):
                self._settle(job, found)
        self.caught_up()
        with self._lock:
            ready = self._queue.ready()
        for each in ready:
            self._dispatch(each)
        if not self.recovered.is_set():
            # Behind what was found out, in the store's order: an engine that dies before takes
            # nothing for started in this boot that was started in the one before.
            self._remember_boot()
            self._same_boot = True
        self.recovered.set()
        self._alarm.look()

    def _observe(self, job_id: str, change: Change) -> None:
        """Have what was observed recorded, with all else that is observed at this time."""

        def record(db: sqlite3.Connection) -> Job:
            try:
                job = self._store.jobs.change(db, job_id, change)
            except WorkerError:  # it is known already, or the job was removed
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
        signum, grace = _wanted(job)
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
                reason = "the end could not be observed: the machine was restarted"
                self._observe(job.id, Change(Event.END, now, Cause.LOST, reason=reason))

    def _follow(self, job: Job, pid: dict[str, Any] | None) -> None:
        if pid is None:
            return
        if pid["start_time"]:  # it is 0 until the supervisor has looked it up
            self._began[job.id] = usage.since_boot(pid["start_time"])
        if job.started_at is None:
            self.started(job.id, pid["pid"], pid["started_at"], pid.get("enforced", {}))

    # -- construction ------------------------------------------------------------------------------

    def _same_boot_as_before(self) -> bool:
        """Return whether the machine was not restarted since the last engine that recovered."""
        with self._store.reading() as db:
            return records.get_meta(db, "boot_id") in (None, jobdir.boot_id())

    def _remember_boot(self) -> None:
        boot = jobdir.boot_id()
        self._store.post((lambda db: records.set_meta(db, "boot_id", boot), None))

    def _load(self) -> None:
        """Give the jobs of the store their slots and places."""
        with self._store.reading() as db:
            for job in records.active(db):
                if job.state is State.QUEUED:
                    self._queue.enqueue(_waiting(job), self._clock.now())
                else:
                    self._queue.occupy(_waiting(job))


def _waiting(job: Job) -> Waiting:
    """Return a job as the queue knows it."""
    waits = job.let_wait
    return Waiting(job.id, job.owner, waits.priority, waits.hold, waits.start_after)


def ending(end: Exit) -> Change:
    """Return the change that the end of a job is to its record."""
    return Change(
        Event.END,
        end.ended_at,
        end.cause,
        exit_code=end.exit_code,
        signal=end.signal,
        reason=end.reason,
        usage=end.usage,
        pid=end.pid,
        started_at=end.started_at,
        enforced=end.enforced,
    )


def _wanted(job: Job) -> tuple[int, float]:
    """Return the signal and the grace with which a job is to end."""
    kill = job.kill or KillRequest()
    signum = signals.number(job.spec.stop_signal) if kill.signal is None else kill.signal
    return signum, job.spec.stop_grace if kill.grace is None else kill.grace


def _start_message(state_dir: str, job: Job, settings: EngineSettings) -> dict[str, Any]:
    """Return what the supervisor needs of a spec."""
    directory = JobDir(state_dir, job.id)
    message = directory.start_message(job.spec.to_dict(), job.owner, job.run_as)
    if job.spec.isolation.read_only and settings.hidden_paths:
        message["hidden"] = list(settings.hidden_paths)
    return message
