"""Engine: submit, watch and end jobs, and read their output. The only façade of worker_core.

How a job goes through it, with the thread that runs each step:

    caller              submit: a slot or a place in the queue, and the record for the store
    the store's         after the commit, the start goes to the executor
    the executor's      started and exited come back, and go to the store as they come
    the store's         after the commit, who waits is woken, and a free slot goes to the next job
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from worker_core import atomic, crash, jobdir, records, recover, retention, signals, spool
from worker_core.clock import Clock, SystemClock
from worker_core.errors import (
    EngineClosed,
    IdempotencyKeyReused,
    InvalidRequest,
    JobNotFinished,
    JobNotRunning,
    QueueFull,
    StateDirInUse,
    StoreUnavailable,
    StreamNotSeparate,
    WorkerError,
)
from worker_core.executor import Executor
from worker_core.executors.local import LocalExecutor
from worker_core.hub import Hub
from worker_core.job import Change, Job, Usage
from worker_core.jobdir import Exit, JobDir
from worker_core.recover import Finding
from worker_core.scheduler import Scheduler
from worker_core.spec import JobSpec
from worker_core.spool import OutputInfo
from worker_core.state import Event, IllegalTransition, State
from worker_core.store import Store
from worker_core.watch import Watches

log = logging.getLogger(__name__)

_ENGINE_LOCK = "engine.lock"
_RECOVERY_SECONDS = 30.0
_MAX_KEY = 255
_SILENCE = 30.0  # seconds after which a follower looks again by itself
_MIN_FREE = 16 << 20  # bytes on the disk below which health says so

_EVENTS = {
    "kill": Event.END_KILLED,
    "timeout": Event.END_TIMEOUT,
    "memory": Event.END_MEMORY,
    "not_started": Event.NOT_STARTED,
    "output_limit": Event.END_FAILURE,
    "lost": Event.LOSE,
}


@dataclass(frozen=True)
class EngineSettings:
    """What bounds an engine. None or 0 mean no bound, as each says."""

    max_running: int = 256
    """Jobs that run at a time; further ones wait. 0: no bound."""
    max_queued: int = 100_000
    """Jobs that wait; further ones are refused."""
    output_limit: int = 1 << 30
    """Bytes of each stream to keep for a job that does not say; 0: no bound."""
    keep_age: float | None = 7 * 86400.0
    """Seconds for which a finished job is kept. None: for ever."""
    keep_count: int | None = None
    """How many finished jobs are kept. None: all."""
    keep_bytes: int | None = None
    """Bytes of output of finished jobs that are kept. None: all."""


@dataclass(frozen=True)
class Page:
    """Some of the jobs, newest first; `next_cursor` is None on the last page."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


class Engine:
    """Runs jobs. All methods may be called from any thread.

    With a `state_dir` everything is durable: jobs outlive this object and this process, and the
    next engine on that directory finds them. Without one, jobs live in a private temporary
    directory and end with the engine, however it ends.

    It does no authorization: `owner` is recorded, and compared by whoever calls.
    """

    def __init__(
        self,
        state_dir: str | os.PathLike[str] | None = None,
        *,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Open the store, reach the supervisor, and find out what became of earlier jobs.

        Raises StateDirInUse, StoreUnavailable or ExecutorUnavailable.
        """
        self.settings = settings or EngineSettings()
        self._clock = clock or SystemClock()
        self._ephemeral = state_dir is None
        self._closed = False
        self._hub = Hub()
        self._watches = Watches()
        self._lock = threading.Lock()  # guards the scheduler
        self._scheduler = Scheduler(self.settings.max_running)
        self._recovered = threading.Event()
        with contextlib.ExitStack() as undo:
            self.state_dir = _prepare(state_dir, undo)
            self._store = Store(
                os.path.join(self.state_dir, "worker.db"), durable=not self._ephemeral
            )
            undo.callback(self._store.close)
            self._same_boot = self._remember_boot()
            self._load()
            self._executor = executor or LocalExecutor(self.state_dir, ephemeral=self._ephemeral)
            self._executor.connect(_Listener(self))
            undo.callback(self._executor.close, end_jobs=False)
            if not self._recovered.wait(_RECOVERY_SECONDS):
                log.error("the supervisor does not answer yet; going on without")
            self._retention = retention.Retention(self._expire)
            undo.callback(self._retention.close)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of everything.

        With a state directory, jobs and their supervisor go on. Without one, all jobs are ended
        and nothing is left of them.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._ephemeral:
            self._executor.close(end_jobs=True)
        self._watches.close()
        self._undo.close()

    # -- jobs --------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, owner: str, *, idempotency_key: str | None = None) -> Job:
        """Accept a job; on return its record is on the disk, but its process may not run yet.

        The same key with an equal spec from the same owner returns the job of the first time and
        starts nothing.

        Raises InvalidRequest, QueueFull, IdempotencyKeyReused or StoreUnavailable; then no job is.
        """
        self._check_open()
        _check_text("owner", owner)
        if idempotency_key is not None:
            _check_text("idempotency key", idempotency_key)
        job_id = str(uuid.uuid4())
        state = self._admit(job_id, owner)
        job = Job(job_id, owner, _bounded(spec, self.settings), state, self._clock.now())
        try:
            self._make_dir(job)
            insertion = self._insertion(job, _hash(spec), idempotency_key)
            accepted = self._store.write(insertion, then=self._accepted).result()
        except OSError as error:
            self._discard(job)
            raise StoreUnavailable(f"cannot store the job: {error}") from error
        except WorkerError:
            self._discard(job)
            raise
        if accepted.id != job.id:
            self._discard(job)
        return self._explained(accepted)

    def get(self, job_id: str) -> Job:
        """Return a job's record; raise JobNotFound, also for what is no id."""
        self._check_open()
        with self._store.reading() as db:
            job = records.get(db, records.printable(job_id))
        return self._explained(job)

    def list(
        self,
        *,
        owner: str | None = None,
        states: Collection[State] = (),
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        id_prefix: str | None = None,
        since: float | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return the jobs that match everything given, newest first.

        `since` is a Unix time of creation. Raises InvalidRequest for a bad cursor or limit.
        """
        self._check_open()
        if limit < 1:
            raise InvalidRequest("limit must be at least 1")
        wanted = records.Filter(owner, states, labels or {}, name, id_prefix, since)
        with self._store.reading() as db:
            jobs, more = records.page(db, wanted, limit, cursor)
        return Page(tuple(map(self._explained, jobs)), more)

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

        Its stop signal (or `signal`) goes to the whole tree, SIGKILL after its grace (or `grace`
        seconds), SIGKILL at once with `now`. A job that waits in the queue never starts. The job
        that is returned is `stopping` if it has not ended in time.

        Raises JobNotFound, and JobNotRunning if it had ended already or ended by itself while the
        kill was on its way; the error's `job` tells how.
        """
        self._check_open()
        signum = None if signal is None else signals.number(signal)
        if grace is not None and not 0 <= grace < float("inf"):
            raise InvalidRequest("grace must be a number of seconds >= 0")
        change = Change(Event.KILL, self._clock.now(), by=by, reason=reason)

        def request(job: Job) -> None:
            if job.state.final:
                self._changed(job)
                return
            self._hub.publish(job)
            self._executor.kill(job_id, reason=job.kill_reason, signal=signum, grace=grace, now=now)
            crash.point("engine.after_kill_sent")

        try:
            self._store.write(self._transition(job_id, change), then=request).result()
        except IllegalTransition:
            raise JobNotRunning(self.get(job_id)) from None
        job = self.wait(job_id, wait)
        if job.state in (State.COMPLETED, State.FAILED):
            raise JobNotRunning(job)
        return job

    def signal(self, job_id: str, signal: str | int) -> Job:
        """Send a signal to the job's whole tree, with no intent to end it.

        On return it is on its way. Raises JobNotFound, JobNotRunning or InvalidRequest.
        """
        signum = signals.number(signal)
        job = self.get(job_id)
        if job.state not in (State.RUNNING, State.STOPPING):
            raise JobNotRunning(job)
        self._executor.signal(job_id, signum)
        return job

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait for a job's end, at most `timeout` seconds; return it in whatever state it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._hub.listening(job_id) as news:
            job = self.get(job_id)
            while not job.state.final:
                left = None if deadline is None else deadline - time.monotonic()
                if not news.wait(left):
                    break
                job = self.get(job_id)
        return job

    def remove(self, job_id: str) -> None:
        """Remove a finished job: its record, then its output. Raises JobNotFinished."""
        self._check_open()
        job = self.get(job_id)
        if not job.state.final:
            raise JobNotFinished(job)
        self._store.write(_deletion(job_id)).result()
        shutil.rmtree(JobDir(self.state_dir, job_id).path, ignore_errors=True)

    def _expire(self) -> None:
        """Remove what the settings do not keep, and directories that have no job any more."""
        with self._store.reading() as db:
            rows = db.execute(records.QUERIES["finished_oldest_first"]).fetchall()
        finished = [retention.Finished(**row) for row in rows]
        for job_id in retention.expired(finished, self.settings, self._clock.now()):
            self.remove(job_id)

    def events(
        self, owner: str, after: int | None = None, *, heartbeat: float = 15.0
    ) -> Iterator[Job | None]:
        """Yield the owner's jobs as they change, each in its latest state; None when it is quiet.

        Begins with what changed after version `after`, or with the next change. Does not end.
        """
        with self._hub.listening(None) as news:
            version = self._store.version if after is None else after
            while True:
                with self._store.reading() as db:
                    jobs = records.changed(db, owner, version, 100)
                for job in jobs:
                    version = job.version
                    yield job
                if not jobs and not news.wait(heartbeat):
                    yield None
                self._check_open()

    # -- output ------------------------------------------------------------------------------------

    def output_info(self, job_id: str, stream: str = "stdout") -> OutputInfo:
        """Return what is kept of a job's output. Raises JobNotFound or StreamNotSeparate."""
        return self._output(self.get(job_id), stream)

    def read_output(
        self, job_id: str, stream: str = "stdout", offset: int = 0, limit: int | None = None
    ) -> bytes:
        """Return bytes from `offset`, or from the first byte still kept if that is later."""
        info = self.output_info(job_id, stream)
        offset = max(offset, info.start)
        length = max(info.size - offset, 0)
        return spool.read(str(info.path), offset, length if limit is None else min(limit, length))

    def open_output(self, job_id: str, stream: str = "stdout") -> BinaryIO:
        """Return the spool file, unbuffered, for reading; empty if nothing was written yet."""
        path = self.output_info(job_id, stream).path
        try:
            return open(path, "rb", buffering=0)
        except FileNotFoundError:
            return open(os.devnull, "rb", buffering=0)

    def tail_offset(self, job_id: str, lines: int, stream: str = "stdout") -> int:
        """Return the offset at which the last `lines` lines begin."""
        info = self.output_info(job_id, stream)
        return spool.tail_offset(str(info.path), info.start, info.size, lines)

    def follow(
        self,
        job_id: str,
        stream: str = "stdout",
        offset: int = 0,
        *,
        heartbeat: float | None = None,
    ) -> Iterator[bytes]:
        """Yield the output from `offset` as it grows, up to 64 KiB at a time.

        Ends when the job has ended and every byte was yielded. With `heartbeat`, yields b"" after
        that many silent seconds. Bytes that were given back before they were read are skipped.
        Raises JobNotFound (also in the middle, if the job is removed) or StreamNotSeparate.
        """
        path = str(self.output_info(job_id, stream).path)
        return self._follow(job_id, stream, path, offset, heartbeat)

    def _follow(
        self, job_id: str, stream: str, path: str, offset: int, heartbeat: float | None
    ) -> Iterator[bytes]:
        with self._watches.on(path) as watch:
            while True:
                seen = watch.changes
                # In this order: what is final now cannot grow any more, so a read that comes
                # after and finds nothing has found the end.
                info = self.output_info(job_id, stream)
                offset = max(offset, info.start)
                chunk = spool.read(path, offset, spool.CHUNK)
                while chunk:
                    kept = JobDir(self.state_dir, job_id).starts().get(stream, 0)
                    if offset < kept:  # given back while it was read
                        offset = kept
                    else:
                        offset += len(chunk)
                        yield chunk
                    chunk = spool.read(path, offset, spool.CHUNK)
                if info.final:
                    return
                if not watch.wait(seen, heartbeat or _SILENCE) and heartbeat is not None:
                    yield b""
                self._check_open()

    def _output(self, job: Job, stream: str) -> OutputInfo:
        if stream not in jobdir.STREAMS:
            raise InvalidRequest(f"{stream!r} is no stream; there are stdout and stderr")
        if stream == "stderr" and not job.spec.separate_stderr:
            raise StreamNotSeparate(job.id)
        directory = JobDir(self.state_dir, job.id)
        path = directory.stream(stream)
        start = directory.starts().get(stream, 0)
        return OutputInfo(spool.size(path), start, Path(path), job.state.final)

    # -- health ------------------------------------------------------------------------------------

    def health(self) -> dict[str, str]:
        """Return "ok", or a sentence saying what is wrong, for store, supervisor and disk."""
        free = shutil.disk_usage(self.state_dir).free
        return {
            "store": self._store.fault or "ok",
            "supervisor": self._executor.fault() or "ok",
            "disk": "ok" if free >= _MIN_FREE else f"only {free} bytes are free",
        }

    def counts(self) -> dict[str, int]:
        """Return how many jobs run and how many wait."""
        with self._lock:
            return {"running": self._scheduler.running, "queued": self._scheduler.queued}

    # -- the way of a job --------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed("the engine was closed")

    def _explained(self, job: Job) -> Job:
        if job.state is not State.QUEUED:
            return job
        with self._lock:
            return replace(job, reason=self._scheduler.why_waiting(job.id))

    def _admit(self, job_id: str, owner: str) -> State:
        with self._lock:
            if self._scheduler.queued >= self.settings.max_queued:
                raise QueueFull(
                    f"{self._scheduler.queued} jobs wait already; try again when some have ended"
                )
            return State.RUNNING if self._scheduler.admit(job_id, owner) else State.QUEUED

    def _make_dir(self, job: Job) -> None:
        directory = JobDir(self.state_dir, job.id)
        os.mkdir(directory.path, atomic.PRIVATE_DIR)
        if isinstance(job.spec.stdin, bytes):
            atomic.create(directory.file("stdin"), job.spec.stdin, sync=not self._ephemeral)

    def _insertion(self, job: Job, spec_hash: str, key: str | None) -> Callable[[Any], Job]:
        def insert(db: Any) -> Job:
            if key is not None:
                found = records.by_key(db, job.owner, key)
                if found is not None and found[1] != spec_hash:
                    raise IdempotencyKeyReused(key)
                if found is not None:
                    return found[0]
            return records.insert(db, job, spec_hash, key, self._store.next_version())

        return insert

    def _transition(self, job_id: str, change: Change) -> Callable[[Any], Job]:
        return lambda db: records.change(db, job_id, change, self._store.next_version())

    def _accepted(self, job: Job) -> None:
        self._hub.publish(job)
        if job.state is State.RUNNING and job.started_at is None:
            self._start(job)

    def _start(self, job: Job) -> None:
        self._executor.start(job.id, _start_message(self.state_dir, job))
        crash.point("engine.after_start_sent")

    def _discard(self, job: Job) -> None:
        """Take back what was prepared for a job that is not, or is an earlier one."""
        shutil.rmtree(JobDir(self.state_dir, job.id).path, ignore_errors=True)
        self._release(job.id)

    def _release(self, job_id: str) -> None:
        with self._lock:
            ready = self._scheduler.withdraw(job_id)
        for each in ready:
            self._dispatch(each)

    def _dispatch(self, job_id: str) -> None:
        def begin(job: Job) -> None:
            self._hub.publish(job)
            self._start(job)

        change = Change(Event.DISPATCH, self._clock.now())
        self._store.write(self._transition(job_id, change), then=begin, must=True)

    def _observe(self, job_id: str, change: Change) -> None:
        """Record what was observed; tried until it is done."""

        def record(db: Any) -> Job:
            job = records.change(db, job_id, change, self._store.next_version())
            size = JobDir(self.state_dir, job_id).disk_bytes() if job.state.final else 0
            if size:
                values = {"id": job_id, "output_bytes": size}
                db.execute(records.QUERIES["set_output_bytes"], values)
            return job

        self._store.write(record, then=self._changed, must=True)

    def _changed(self, job: Job) -> None:
        """Runs in the store's thread after each commit that changed a job by what was observed."""
        self._hub.publish(job)
        for stream in jobdir.STREAMS:
            self._watches.touch(JobDir(self.state_dir, job.id).stream(stream))
        if job.state.final:
            crash.point("engine.exit_committed")
            self._release(job.id)

    # -- recovery ----------------------------------------------------------------------------------

    def _remember_boot(self) -> bool:
        """Whether the machine was not restarted since the last engine."""
        boot = jobdir.boot_id()

        def remember(db: Any) -> bool:
            row = db.execute(records.QUERIES["get_meta"], {"key": "boot_id"}).fetchone()
            db.execute(records.QUERIES["set_meta"], {"key": "boot_id", "value": boot})
            return row is None or row["value"] == boot

        return self._store.write(remember).result()

    def _load(self) -> None:
        """Take up the jobs of the store, and sweep out directories that no job has any more."""
        with self._store.reading() as db:
            active = records.active(db)
        for job in active:
            if job.state is State.QUEUED:
                self._scheduler.enqueue(job.id, job.owner)
            else:
                self._scheduler.occupy(job.id, job.owner)

    def _ask(self) -> None:
        """Ask the executor what became of every job that runs in the store."""
        with self._store.reading() as db:
            jobs = [job for job in records.active(db) if job.state is not State.QUEUED]
        self._executor.query([job.id for job in jobs])

    def _learn(self, known: dict[str, dict[str, Any]]) -> None:
        for job_id, found in known.items():
            job = self.get(job_id)
            if not job.state.final and job.state is not State.QUEUED:
                self._settle(job, found)
        with self._lock:
            ready = self._scheduler.ready()
        for each in ready:
            self._dispatch(each)
        self._same_boot = True
        self._recovered.set()

    def _settle(self, job: Job, found: dict[str, Any]) -> None:
        now = self._clock.now()
        finding = recover.compare(job.state, found, same_boot=self._same_boot)
        match finding:
            case Finding.ENDED:
                self._observe(job.id, _ending(Exit(**found["exit"])))
            case Finding.FOLLOW | Finding.KILL_AGAIN:
                pid = found["running"]
                if pid is not None and job.started_at is None:
                    self._observe(job.id, Change(Event.STARTED, pid["started_at"], pid=pid["pid"]))
                if finding is Finding.KILL_AGAIN:
                    self._executor.kill(
                        job.id, reason=job.kill_reason, signal=None, grace=None, now=False
                    )
            case Finding.START:
                self._start(job)
            case Finding.CANCEL:
                self._observe(job.id, Change(Event.END_KILLED, now))
            case Finding.LOSE:
                reason = "the end could not be observed: the machine was restarted"
                self._observe(job.id, Change(Event.LOSE, now, reason=reason))


class _Listener:
    """What the executor's thread tells the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def started(self, job_id: str, pid: int, at: float) -> None:
        self._engine._observe(job_id, Change(Event.STARTED, at, pid=pid))

    def exited(self, job_id: str, end: Exit) -> None:
        crash.point("engine.exit_received")
        self._engine._observe(job_id, _ending(end))

    def known(self, jobs: dict[str, dict[str, Any]]) -> None:
        self._engine._learn(jobs)

    def connected(self) -> None:
        self._engine._ask()


def _ending(end: Exit) -> Change:
    usage = None
    if end.wall_seconds is not None:
        usage = Usage(
            end.wall_seconds,
            end.user_seconds or 0.0,
            end.system_seconds or 0.0,
            end.max_rss_bytes or 0,
        )
    success = end.exit_code == 0
    own = Event.END_SUCCESS if success else Event.END_FAILURE
    return Change(
        own if end.cause == "own" else _EVENTS[end.cause],
        end.ended_at,
        exit_code=end.exit_code,
        signal=end.signal,
        reason=end.reason,
        usage=usage,
    )


def _start_message(state_dir: str, job: Job) -> dict[str, Any]:
    """Return what the supervisor needs of a spec."""
    spec = job.spec.to_dict()
    match spec["stdin"]:
        case {"size": _}:
            spec["stdin"] = JobDir(state_dir, job.id).file("stdin")
        case {"file": path}:
            spec["stdin"] = path
    return {name: value for name, value in spec.items() if name not in ("name", "labels")}


def _bounded(spec: JobSpec, settings: EngineSettings) -> JobSpec:
    if spec.output_limit is not None:
        return spec
    return replace(spec, output_limit=settings.output_limit)


def _hash(spec: JobSpec) -> str:
    """Return what two equal specs have in common."""
    stdin = spec.stdin if isinstance(spec.stdin, bytes) else b""
    shown = json.dumps(spec.to_dict(), sort_keys=True).encode()
    return hashlib.sha256(shown + hashlib.sha256(stdin).digest()).hexdigest()


def _deletion(job_id: str) -> Callable[[Any], None]:
    def delete(db: Any) -> None:
        db.execute(records.QUERIES["delete"], {"id": job_id})

    return delete


def _check_text(what: str, text: str) -> None:
    if not text or len(text) > _MAX_KEY or records.printable(text) != text:
        raise InvalidRequest(f"the {what} must be a text of 1 to {_MAX_KEY} characters")


def _prepare(state_dir: str | os.PathLike[str] | None, undo: contextlib.ExitStack) -> str:
    """Return the state directory, made and locked."""
    if state_dir is None:
        path = tempfile.mkdtemp(prefix="worker-")
        undo.callback(shutil.rmtree, path, ignore_errors=True)
    else:
        path = os.path.abspath(state_dir)
        jobdir.make_private_dir(path)
    jobdir.make_private_dir(os.path.join(path, jobdir.JOBS))
    lock = os.open(os.path.join(path, _ENGINE_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    undo.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StateDirInUse(
            f"cannot use {path}: another engine has it open; stop that one, or choose another "
            "state directory"
        ) from None
    return path
