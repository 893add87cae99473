"""Engine: submit, watch and end jobs, and read their output. The only façade of worker_core."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from worker_core.clock import Clock, Offsets, SystemClock, Timeline
from worker_core.disk import jobdir, reserve, statedir
from worker_core.engine import kill_sender
from worker_core.engine.admission import Admission, check_text
from worker_core.engine.engine_output import OutputMethods
from worker_core.engine.engine_records import RecordMethods
from worker_core.engine.kill_sender import KillSender
from worker_core.engine.lifecycle import Lifecycle, Statistics
from worker_core.engine.maintenance import Maintenance
from worker_core.engine.watcher import Watcher
from worker_core.executor import Executor
from worker_core.executors.local import LocalExecutor
from worker_core.linux import procfs
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.model import spec as specs
from worker_core.model.errors import EngineClosed, ExecutorUnavailable, JobNeeded, JobNotFinished
from worker_core.model.job import Job
from worker_core.model.kill import KillRequest
from worker_core.model.spec import JobSpec
from worker_core.model.waiting.waits import UNCHANGED, Unchanged
from worker_core.notify import Cancellation
from worker_core.output.stream import Outputs
from worker_core.settings import EngineSettings
from worker_core.store import continuity, records
from worker_core.store.removal import Remover
from worker_core.store.store import Store

log = logging.getLogger(__name__)

_RECOVERY_SECONDS = 30.0
_CLOCK = "clock"  # the key under which the store keeps the Timeline


class Engine(RecordMethods, OutputMethods):
    """Runs jobs. All methods may be called from any thread.

    With a `state_dir` everything is durable: jobs outlive this object and this process, and the
    next engine on that directory finds them. Without one, jobs live in a private temporary
    directory and end with the engine, however it ends.

    The engine does no authorization: it records `owner`; the caller compares it.
    """

    def __init__(
        self,
        state_dir: str | os.PathLike[str] | None = None,
        *,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        executor: Executor | None = None,
        descriptor_store: DescriptorStore | None = None,
    ) -> None:
        """Open the store, connect to the supervisor, and find out what became of earlier jobs.

        A systemd service passes its `descriptor_store`: then the exit codes of jobs stay known when
        this process and the supervisor are killed together.

        Raises StateDirInUse, StoreUnavailable or ExecutorUnavailable.
        """
        if fault := procfs.proc_fault():
            raise ExecutorUnavailable(f"cannot run jobs: {fault}")
        self.settings = settings or EngineSettings()
        self._clock = clock or SystemClock()
        self._durable = state_dir is not None
        self._closed = threading.Event()
        self._process = os.getpid()
        with _thread_shortage_named(), contextlib.ExitStack() as undo:
            self.state_dir = statedir.prepare(state_dir, undo)
            self._reserve = reserve.Reserve(self.state_dir)
            self._store, leftovers = self._open_store(undo)
            self._remover = Remover(self.state_dir, self._store, self._reserve.give_up)
            self._timeline = self._stored_timeline()
            self._outputs = Outputs(self.state_dir, self._record)
            undo.callback(self._outputs.close)
            self._executor = executor or LocalExecutor(
                self.state_dir,
                ephemeral=not self._durable,
                no_new_privileges=self.settings.no_new_privileges,
                may_start=self.settings.start_supervisor,
                store=descriptor_store,
            )
            self._jobs = Lifecycle(
                self.state_dir,
                self._store,
                self._executor,
                settings=self.settings,
                clock=self._clock,
                touch=self._outputs.touch,
            )
            self._make_parts(leftovers)
            self._executor.connect(self._jobs)
            undo.callback(self._executor.close, end_jobs=not self._durable)
            if not self._jobs.recovered.wait(_RECOVERY_SECONDS):
                log.error("the supervisor does not answer yet; continuing without it")
            self._maintenance.start()
            undo.callback(self._maintenance.close)
            undo.callback(self._jobs.close)
            undo.callback(self._jobs.notifier.close)
            self._undo = undo.pop_all()

    def _open_store(self, undo: contextlib.ExitStack) -> tuple[Store, continuity.Leftovers]:
        """Return the store, and the directories that a crash left without a record."""
        path = os.path.join(self.state_dir, statedir.DATABASE)
        give_up = self._reserve.give_up
        if not self._durable:
            store = Store(path, durable=False, on_full=give_up)
            undo.callback(store.close)
            return store, continuity.Leftovers()
        store, leftovers = continuity.open_store(self.state_dir, path, give_up)
        undo.callback(continuity.close_store, self.state_dir, store)
        continuity.advance(self.state_dir, store)
        return store, leftovers

    def _make_parts(self, leftovers: continuity.Leftovers) -> None:
        store, jobs = self._store, self._jobs
        common = (self.state_dir, store, self._executor, jobs)
        self._admission = Admission(
            *common,
            self._reserve,
            clock=self._clock,
            output_limit=self.settings.output_limit,
            durable=self._durable,
        )
        self._kill_sender = KillSender(*common, clock=self._clock, durable=self._durable)
        self._watcher = Watcher(store, jobs, self._record, self._check_open)
        self._maintenance = Maintenance(
            self.state_dir,
            store,
            self._reserve,
            self._timeline,
            settings=self.settings,
            remover=self._remover,
            leftovers=leftovers,
            durable=self._durable,
        )

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Release everything. Threads that wait for a job or its output get EngineClosed.

        With a state directory, the jobs and their supervisor keep running. Without one, all jobs
        are ended and their directory is removed.
        """
        if not self._closed.is_set() and os.getpid() == self._process:
            self._closed.set()
            self._undo.close()

    # -- jobs --------------------------------------------------------------------------------------

    def submit(
        self,
        spec: JobSpec,
        owner: str,
        *,
        idempotency_key: str | None = None,
        run_as: str | None = None,
    ) -> Job:
        """Accept a job. On return its record is on the disk; its process may not run yet.

        `run_as` names the Unix account of the job. Only a supervisor that runs as root can start a
        job as another account than its own.

        The same key with an equal spec from the same owner returns the first job and starts
        nothing, as long as that job is kept.

        Raises InvalidRequest, InvalidSpec (a limit that cannot be enforced here), QueueFull,
        IdempotencyKeyReused or StoreUnavailable; then there is no job.
        """
        self._check_open()
        job = self._admission.submit(spec, owner, idempotency_key, run_as)
        return self._jobs.with_reason(job)

    def kill(
        self,
        job_id: str,
        *,
        by: str | None = None,
        signal: str | int | None = None,
        grace: float | None = None,
        now: bool = False,
        reason: str | None = None,
        wait: float = 10.0,
    ) -> Job:
        """End a job and everything it started, and wait up to `wait` seconds for that.

        The job's whole process tree gets its stop signal (or `signal`), and SIGKILL after its grace
        (or `grace` seconds); with `now`, SIGKILL at once. A queued job never starts. The returned
        job is `stopping` if it has not ended in time, or still `running` if the database cannot be
        written either.

        Raises StoreUnavailable (only for a queued job), JobNotFound, and JobNotRunning if the job
        had ended already or ended by itself before the signal arrived; the error's `job` says how.
        """
        request = KillRequest.make(by=by, signal=signal, grace=grace, now=now, reason=reason)
        self.request_kill(job_id, request)
        return self.kill_outcome(self.wait(job_id, wait))

    def request_kill(self, job_id: str, request: KillRequest) -> Job:
        """Do what `kill` does, but do not wait; return the job as it is then."""
        self._check_open()
        if request.by is not None:
            check_text("name of who asks", request.by)
        self._kill_sender.request(job_id, request)
        return self._record(job_id)

    def kill_outcome(self, job: Job) -> Job:
        """Return a job that was to be killed; raise JobNotRunning if it ended by itself before."""
        return kill_sender.outcome(job)

    def update(
        self,
        job_id: str,
        *,
        priority: int | None = None,
        hold: bool | None = None,
        start_after: float | Unchanged | None = UNCHANGED,
    ) -> Job:
        """Change what a queued job waits for; return its record.

        None for `priority` or `hold` leaves it unchanged; None for `start_after` removes the time.
        On return the change is on the disk, and the job may have started because of it.

        Raises InvalidSpec, JobNotFound, JobNotWaiting or StoreUnavailable.
        """
        self._check_open()
        given = {"priority": priority, "hold": hold}
        changes: dict[str, Any] = {name: each for name, each in given.items() if each is not None}
        if start_after is not UNCHANGED:
            changes["start_after"] = start_after
        specs.check(changes)
        return self._jobs.with_reason(self._jobs.update(self._record(job_id), changes))

    def signal(self, job_id: str, signal: str | int) -> Job:
        """Send a signal to the job's whole process tree, without the intent to end it.

        On return the signal was sent to the supervisor. Raises JobNotFound, JobNotRunning,
        InvalidRequest, or ExecutorUnavailable if the supervisor cannot be reached now.
        """
        job = self._record(job_id)
        self._kill_sender.signal(job, signal)
        return job

    def wait(
        self, job_id: str, timeout: float | None = None, *, cancel: Cancellation | None = None
    ) -> Job:
        """Wait for a job's end, at most `timeout` seconds; return it in whatever state it is.

        Another thread can end the wait early by `cancel.request()`.
        """
        return self._watcher.wait(job_id, timeout, cancel)

    def remove(self, job_id: str) -> None:
        """Remove a finished job: its record, then its output.

        Raises JobNotFound, JobNotFinished, JobNeeded (another job waits for it), or
        StoreUnavailable; then only its output is removed.
        """
        self._check_open()
        job = self._record(job_id)
        if not job.state.final:
            raise JobNotFinished(job)
        if not self._remover.remove([job_id]):
            dependent = self._jobs.dependents.first_of(job_id)
            if dependent is not None:
                raise JobNeeded(job_id, dependent)

    def remove_many(self, job_ids: Iterable[str]) -> int:
        """Remove finished jobs as `remove` does, fifty with one flush; return how many.

        Jobs that are unknown or have not ended are left out.
        """
        self._check_open()
        return self._remover.remove(job_ids, self._closed.is_set)

    def events(
        self, owner: str, after: int | None = None, *, heartbeat: float = 15.0
    ) -> Iterator[Job | None]:
        """Yield the owner's jobs as they change, each in its latest state.

        Begins with the changes after version `after`, or with the first change after this call.
        Yields None after each `heartbeat` seconds without a change. Does not end; close the
        iterator. The `spec` of a job with a long spec is an outline.
        """
        changes = self.changes(owner, after, heartbeat=heartbeat)
        return (job for jobs in changes for job in jobs or (None,))

    def changes(
        self, owner: str, after: int | None = None, *, heartbeat: float = 15.0
    ) -> Iterator[Sequence[Job]]:
        """Yield what `events` yields, but simultaneous changes together, and () for None."""
        return self._watcher.changes(owner, after, heartbeat)

    # -- health ------------------------------------------------------------------------------------

    def health(self) -> dict[str, str]:
        """Return "ok" or what is wrong, for store, supervisor and disk.

        Each check takes a few seconds at most.
        """
        return {
            "store": self._store.check() or "ok",
            "supervisor": self._executor.fault() or "ok",
            "disk": reserve.disk_fault(self.state_dir) or "ok",
        }

    def hanging_starts(self) -> int:
        """Return how many starts hang, for instance on a dead file system.

        Asks the supervisor, which takes a few seconds at most.
        """
        self._executor.fault()
        return self._executor.hanging_starts

    def statistics(self) -> Statistics:
        """Return numbers about all jobs, for monitoring."""
        self._check_open()
        with self._store.reading() as db:
            by_state, output_bytes = records.totals(db)
        return self._jobs.statistics(by_state, output_bytes)

    def counts(self) -> dict[str, int]:
        """Return how many jobs are running and how many are queued."""
        return self._jobs.counts()

    # ----------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise EngineClosed("the engine was closed")
        if os.getpid() != self._process:
            raise EngineClosed("the engine belongs to the process that forked this one")

    def _stored_timeline(self) -> Timeline:
        """Return how the clock was set since the machine was started, as earlier engines saw it."""
        boot = jobdir.boot_id()
        with self._store.reading() as db:
            stored = json.loads(records.get_meta(db, _CLOCK) or "{}")

        def store(offsets: Offsets) -> None:
            text = json.dumps({"boot": boot, "offsets": offsets})
            self._store.post((lambda db: records.set_meta(db, _CLOCK, text), None))

        known = stored["offsets"] if stored.get("boot") == boot else ()
        return Timeline(self._clock, tuple((at, offset) for at, offset in known), store)


@contextlib.contextmanager
def _thread_shortage_named() -> Iterator[None]:
    """Raise ExecutorUnavailable where no thread can be started because of the process limit."""
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise ExecutorUnavailable(
            "cannot start a thread: the limit on processes is reached; raise it (TasksMax= of a "
            "service, `ulimit -u` of an account), or end other processes"
        ) from error
