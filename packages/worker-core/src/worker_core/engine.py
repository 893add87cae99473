"""Engine: submit, watch and end jobs, and read their output. The only façade of worker_core."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from worker_core import failpoints, rebuild, retention
from worker_core.clock import Clock, Offsets, SystemClock, Timeline
from worker_core.disk import files, jobdir, reserve, statedir
from worker_core.disk.jobdir import JobDir
from worker_core.executor import Executor
from worker_core.executors.local import LocalExecutor
from worker_core.feed import Feeds
from worker_core.lifecycle import Lifecycle, Statistics
from worker_core.linux import procfs
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.model import signals
from worker_core.model import spec as specs
from worker_core.model.errors import (
    EngineClosed,
    ExecutorUnavailable,
    IdempotencyKeyReused,
    InvalidRequest,
    InvalidSpec,
    JobNotFinished,
    JobNotRunning,
    QueueFull,
    StoreUnavailable,
    WorkerError,
)
from worker_core.model.job import Change, Job
from worker_core.model.kill import KillRequest
from worker_core.model.spec import DEFAULT, JobSpec
from worker_core.model.state import Event, IllegalTransition, State
from worker_core.model.waits import UNCHANGED, Unchanged
from worker_core.output.spool import OutputInfo
from worker_core.output.stream import Outputs
from worker_core.settings import EngineSettings
from worker_core.store import backups, continuity, listing, records
from worker_core.store.removal import Remover
from worker_core.store.store import Operation, Store

log = logging.getLogger(__name__)

_RECOVERY_SECONDS = 30.0
_MAX_TEXT = 255  # characters of an owner or an idempotency key
_LONGEST_PAGE = 1_000_000  # jobs
_DEFAULT = DEFAULT.to_dict()
_SORTED = json.JSONEncoder(sort_keys=True)
_CLOCK = "clock"  # the key under which a Timeline is remembered
_MIN_FREE = 16 << 20  # bytes on the disk below which health says so


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
        descriptor_store: DescriptorStore | None = None,
    ) -> None:
        """Open the store, reach the supervisor, and find out what became of earlier jobs.

        A service of systemd gives its `descriptor_store`, so that the ends of jobs stay known
        when this process and the supervisor are killed together.

        Raises StateDirInUse, StoreUnavailable or ExecutorUnavailable.
        """
        if fault := procfs.proc_fault():
            raise ExecutorUnavailable(f"cannot run jobs: {fault}")
        self.settings = settings or EngineSettings()
        self._clock = clock or SystemClock()
        self._ephemeral = state_dir is None
        self._closed = threading.Event()
        self._process = os.getpid()
        self._boot = jobdir.boot_id()
        with _shortage_named(), contextlib.ExitStack() as undo:
            self.state_dir = statedir.prepare(state_dir, undo)
            path = os.path.join(self.state_dir, statedir.DATABASE)
            self._reserve = reserve.Reserve(self.state_dir)
            self._left = continuity.Leftovers()
            if self._ephemeral:
                self._store = Store(path, durable=False, on_full=self._reserve.give_up)
                undo.callback(self._store.close)
            else:
                self._store, self._left = continuity.open_store(
                    self.state_dir, path, self._reserve.give_up
                )
                undo.callback(continuity.close_store, self.state_dir, self._store)
                continuity.advance(self.state_dir, self._store)
            self._remover = Remover(self.state_dir, self._store, self._reserve.give_up)
            self._copies = backups.DailyCopies(self.state_dir, path, self._closed.is_set)
            self._timeline = self._remembered_timeline()
            self._outputs = Outputs(self.state_dir, self._record)
            undo.callback(self._outputs.close)
            self._executor = executor or LocalExecutor(
                self.state_dir,
                ephemeral=self._ephemeral,
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
            self._feeds = Feeds(self._changes_after, self._jobs.notifier.change_count)
            self._executor.connect(self._jobs)
            undo.callback(self._executor.close, end_jobs=self._ephemeral)
            if not self._jobs.recovered.wait(_RECOVERY_SECONDS):
                log.error("the supervisor does not answer yet; going on without")
            undo.callback(retention.Retention(self._tidy).close)
            undo.callback(self._jobs.close)
            undo.callback(self._jobs.notifier.close)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of everything; who still waits for a job or its output gets EngineClosed.

        With a state directory, jobs and their supervisor go on. Without one, all jobs are ended
        and nothing is left of them.
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
        """Accept a job; on return its record is on the disk, but its process may not run yet.

        `run_as` names the Unix account that it runs as; only the supervisor of root can start a job
        as another one than its own.

        The same key with an equal spec from the same owner returns the job of the first time and
        starts nothing, for as long as that job is kept.

        Raises InvalidRequest, InvalidSpec (a limit that cannot be enforced here), QueueFull,
        IdempotencyKeyReused or StoreUnavailable; then there is no job.
        """
        self._check_open()
        _check_text("owner", owner)
        if idempotency_key is not None:
            _check_text("idempotency key", idempotency_key)
        if run_as is not None:
            _check_text("account", run_as)
        if missing := list(self._executor.unenforceable(spec)):
            raise InvalidSpec(missing)
        job_id = str(uuid.uuid4())
        bounded = spec.bounded(self.settings.output_limit)
        spec_hash = _hash(spec)
        job = Job(job_id, owner, bounded, State.QUEUED, self._clock.now(), run_as=run_as)

        def insertion(state: State) -> Operation[Job]:
            return self._insertion(job.replaced(state=state), spec_hash, idempotency_key)

        try:
            self._check_disk()
            self._jobs.check_room(job)
            accepted = self._admit(job, spec_hash, idempotency_key, insertion)
        except (QueueFull, StoreUnavailable):
            earlier = self._earlier(owner, idempotency_key, spec_hash)
            if earlier is None:
                raise
            accepted = earlier
        return self._jobs.with_reason(accepted)

    def get(self, job_id: str, *, whole: bool = True) -> Job:
        """Return a job's record, of a running one with what it has used up to now.

        Without `whole`, a long spec (over 4 KiB in JSON) may be an outline, which lacks what makes
        it long; the same holds for the records that `wait`, `kill`, `signal` and `events` return.

        Raises JobNotFound, also for what is no id.
        """
        job = self._jobs.with_usage(self._record(job_id))
        return self.whole(job) if whole else job

    def whole(self, job: Job) -> Job:
        """Return a record with its whole spec; raise JobNotFound."""
        if job.spec.whole:
            return job
        with self._store.reading() as db:
            return records.complete(db, job)

    def spec_json(self, job: Job) -> str:
        """Return the spec of a job whose record has an outline of it, in JSON as it is stored."""
        with self._store.reading() as db:
            return records.long_spec(db, job.id)

    def list(
        self,
        *,
        owner: str | None = None,
        states: Collection[State] = (),
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        id_prefix: str | None = None,
        since: float | None = None,
        ended_before: float | None = None,
        limit: int = 50,
        cursor: str | None = None,
        max_bytes: int | None = None,
        whole: bool = True,
        on_step: Callable[[], None] | None = None,
    ) -> Page:
        """Return the jobs that match everything given, newest first.

        At most `limit` jobs, and with `max_bytes` no more than whose specs have so many bytes in
        JSON together, but at least one. Without `whole`, a long spec is an outline; see `get`.
        `on_step` is called now and then during a long search; what it raises ends the search.

        `since` is the earliest time of creation, `ended_before` the latest end, in Unix seconds;
        see `ago`. Raises InvalidRequest for a bad cursor or limit.
        """
        self._check_open()
        if not 1 <= limit <= _LONGEST_PAGE:
            raise InvalidRequest(f"limit must be a number from 1 to {_LONGEST_PAGE}")
        wanted = listing.Filter(owner, states, labels or {}, name, id_prefix, since, ended_before)
        # At one moment: a job that is removed meanwhile must not lack its long spec.
        with self._store.reading() as db, records.one_moment(db):
            jobs, more = listing.page(
                db, wanted, limit, cursor, max_bytes=max_bytes, on_step=on_step
            )
            if whole:
                jobs = [records.complete(db, job) for job in jobs]
        return Page(tuple(map(self._jobs.with_reason, jobs)), more)

    def ago(self, seconds: float) -> float:
        """Return a Unix time such that every job that ended before it did so that long ago.

        So is it of a creation. It allows for a clock that was set in between; if it was, some of
        the jobs that ended after it are that old, too.
        """
        return self._timeline.ago(seconds)

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
        that is returned is `stopping` if it has not ended in time, or `running` if in addition the
        database cannot be written now.

        Raises StoreUnavailable (only for a job that waits), JobNotFound, and JobNotRunning if it
        had ended already or ended by itself while the kill was on its way; the error's `job` tells
        how.
        """
        self._check_open()
        if by is not None:
            _check_text("name of who asks", by)
        request_ = KillRequest.make(by=by, signal=signal, grace=grace, now=now, reason=reason)
        change = Change(Event.KILL, self._clock.now(), kill=request_)

        def request(job: Job) -> None:
            self._note_wish(job)
            if job.state.final:
                self._jobs.changed(job)
                return
            self._jobs.notifier.publish(job)
            self._jobs.kill(job)
            failpoints.point("engine.after_kill_sent")

        try:
            try:
                self._store.write(self._jobs.transition(job_id, change), request).result()
            except StoreUnavailable:
                # It may be the very job that fills the disk: ended now, recorded later. One that
                # waits could begin after a crash, so its kill is refused.
                stopping = self._record(job_id).after(change)
                if stopping.state.final:
                    raise
                write = self._jobs.transition(job_id, change)
                self._store.post((write, self._jobs.notifier.publish))
                request(stopping)
        except IllegalTransition:
            raise JobNotRunning(self._record(job_id)) from None
        job = self.wait(job_id, wait)
        if job.state in (State.COMPLETED, State.FAILED):
            raise JobNotRunning(job)
        return job

    def update(
        self,
        job_id: str,
        *,
        priority: int | None = None,
        hold: bool | None = None,
        start_after: float | Unchanged | None = UNCHANGED,
    ) -> Job:
        """Change what a waiting job waits for; return its record.

        None for `priority` or `hold` leaves it as it is; None for `start_after` is no time. On
        return the change is on the disk, and the job may have started because of it.

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
        """Send a signal to the job's whole tree, with no intent to end it.

        On return it is on its way. Raises JobNotFound, JobNotRunning or InvalidRequest.
        """
        signum = signals.number(signal)
        job = self._record(job_id)
        if job.state not in (State.RUNNING, State.STOPPING):
            raise JobNotRunning(job)
        self._executor.signal(job_id, signum)
        return job

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait for a job's end, at most `timeout` seconds; return it in whatever state it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._jobs.notifier.job_changes(job_id) as subscription:
            job = self._record(job_id)
            while not job.state.final:
                left = None if deadline is None else deadline - time.monotonic()
                if not subscription.wait(left):
                    return self._jobs.with_reason(job)  # its process may have ended meanwhile
                job = self._record(job_id)
        return job

    def remove(self, job_id: str) -> None:
        """Remove a finished job: its record, then its output.

        Raises JobNotFound, JobNotFinished, or StoreUnavailable; then only its output is gone.
        """
        self._check_open()
        job = self._record(job_id)
        if not job.state.final:
            raise JobNotFinished(job)
        self._remover.remove([job_id])

    def remove_many(self, job_ids: Iterable[str]) -> int:
        """Remove finished jobs as `remove` does, a hundred with one flush; return how many.

        Jobs that are unknown or have not ended are passed over.
        """
        self._check_open()
        return self._remover.remove(job_ids, self._closed.is_set)

    def events(
        self, owner: str, after: int | None = None, *, heartbeat: float = 15.0
    ) -> Iterator[Job | None]:
        """Yield the owner's jobs as they change, each in its latest state; None when it is quiet.

        Begins with what changed after version `after`, or with the first change after this call.
        Does not end; close the iterator. Of a job with a long spec, its `spec` is an outline.
        """
        changes = self.changes(owner, after, heartbeat=heartbeat)
        return (job for jobs in changes for job in jobs or (None,))

    def changes(
        self, owner: str, after: int | None = None, *, heartbeat: float = 15.0
    ) -> Iterator[Sequence[Job]]:
        """Yield what `events` does, all changes of a moment together; nothing when it is quiet."""
        self._check_open()
        return self._changed(owner, self._store.jobs.version if after is None else after, heartbeat)

    def _changed(self, owner: str, version: int, heartbeat: float) -> Iterator[Sequence[Job]]:
        notifier, start = self._jobs.notifier, self._store.jobs.version
        with notifier.owner_changes(owner) as subscription, self._feeds.of(owner, start) as feed:
            while True:
                jobs = feed.after(version)
                if jobs:
                    version = jobs[-1].version
                    yield jobs
                elif not subscription.wait(heartbeat):
                    yield ()
                self._check_open()

    def _changes_after(self, owner: str, version: int, limit: int) -> Sequence[Job]:
        with self._store.reading() as db:
            jobs = records.changed(db, owner, version, limit)
        return [self._jobs.with_duration(job) for job in jobs]

    # -- output ------------------------------------------------------------------------------------

    def output_info(self, job_id: str, stream: str = "stdout") -> OutputInfo:
        """Return what is kept of a job's output. Raises JobNotFound or StreamNotSeparate."""
        return self._outputs.info(job_id, stream)

    def read_output(
        self, job_id: str, stream: str = "stdout", offset: int = 0, limit: int | None = None
    ) -> bytes:
        """Return bytes from `offset`, or from the first byte still kept if that is later."""
        return self._outputs.read(job_id, stream, offset, limit)

    def open_output(self, job_id: str, stream: str = "stdout") -> BinaryIO:
        """Return the spool file, unbuffered, for reading; empty if nothing was written yet."""
        return self._outputs.open(job_id, stream)

    def tail_offset(
        self,
        job_id: str,
        lines: int,
        stream: str = "stdout",
        *,
        on_block: Callable[[], None] = lambda: None,
    ) -> int:
        """Return the offset at which the last `lines` lines begin, or that of the last 256 MiB.

        `on_block` is called before each 64 KiB that are searched; what it raises ends the search.
        """
        return self._outputs.tail_offset(job_id, stream, lines, on_block)

    def follow(
        self,
        job_id: str,
        stream: str = "stdout",
        offset: int = 0,
        *,
        heartbeat: float | None = None,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Iterator[bytes]:
        """Yield the output from `offset` as it grows, up to 64 KiB at a time.

        Ends when the job has ended and every byte was yielded. With `heartbeat`, yields b"" after
        that many silent seconds. Bytes that were given back before they were read are skipped;
        `on_gap(due, start)` is called before the first chunk after them, and what it raises ends
        the iteration.

        Raises JobNotFound (also in the middle, if the job is removed) or StreamNotSeparate.
        """
        self.output_info(job_id, stream)  # what is refused is refused now, not at the first chunk
        return self._outputs.follow(job_id, stream, offset, heartbeat=heartbeat, on_gap=on_gap)

    # -- health ------------------------------------------------------------------------------------

    def health(self) -> dict[str, str]:
        """Return "ok", or a sentence saying what is wrong, for store, supervisor and disk.

        Each is asked, and has a few seconds for its answer.
        """
        return {
            "store": self._store.check() or "ok",
            "supervisor": self._executor.fault() or "ok",
            "disk": _disk_fault(self.state_dir) or "ok",
        }

    def hanging_starts(self) -> int:
        """Ask how many starts hang, on a dead file system for example; wait for a few seconds."""
        self._executor.fault()
        return self._executor.hanging_starts

    def statistics(self) -> Statistics:
        """Return numbers about all jobs, for those who watch a server."""
        self._check_open()
        with self._store.reading() as db:
            by_state, output_bytes = records.totals(db)
        return self._jobs.statistics(by_state, output_bytes)

    def counts(self) -> dict[str, int]:
        """Return how many jobs run and how many wait."""
        return self._jobs.counts()

    # -- steps of the above ------------------------------------------------------------------------

    def _record(self, job_id: str) -> Job:
        self._check_open()
        return self._jobs.with_reason(self._store.job(job_id))

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise EngineClosed("the engine was closed")
        if os.getpid() != self._process:
            raise EngineClosed("the engine is that of the process which forked this one")

    def _tidy(self) -> None:
        """Remove what the settings do not keep, and what a crash left."""
        self._clear()
        self._expire()
        self._reserve.kept()
        self._back_up()

    def _clear(self) -> None:
        left, self._left = self._left, continuity.Leftovers()
        continuity.clear(self.state_dir, left, self._remover)

    def _back_up(self) -> None:
        if not self._ephemeral and self._copies.make_if_due():
            continuity.advance(self.state_dir, self._store)

    def _expire(self) -> None:
        self._timeline.look()  # also for the ages that somebody asks about later
        keep_age = self.settings.keep_age
        too_old = None if keep_age is None else self.ago(keep_age)
        with self._store.reading() as db:
            gone = retention.expired(records.finished(db), records.kept(db), self.settings, too_old)
        self._remover.remove(gone, self._closed.is_set)
        self._remover.settle()

    def _remembered_timeline(self) -> Timeline:
        """Return how the clock was set since the machine was started, as earlier engines saw it."""
        boot = jobdir.boot_id()
        with self._store.reading() as db:
            remembered = json.loads(records.get_meta(db, _CLOCK) or "{}")

        def remember(offsets: Offsets) -> None:
            text = json.dumps({"boot": boot, "offsets": offsets})
            self._store.post((lambda db: records.set_meta(db, _CLOCK, text), None))

        known = remembered["offsets"] if remembered.get("boot") == boot else ()
        return Timeline(self._clock, tuple((at, offset) for at, offset in known), remember)

    def _admit(
        self,
        job: Job,
        spec_hash: str,
        key: str | None,
        insertion: Callable[[State], Operation[Job]],
    ) -> Job:
        """Make the job's directory and have it recorded; leave nothing of one that is not."""
        try:
            self._make_dir(job, spec_hash, key)
            accepted = self._jobs.admit(job, insertion)
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

    def _make_dir(self, job: Job, spec_hash: str, key: str | None) -> None:
        directory = JobDir(self.state_dir, job.id)
        os.mkdir(directory.path, files.PRIVATE_DIR)
        if not self._ephemeral:
            directory.write_record(rebuild.described(job, spec_hash, key, self._boot))
        if isinstance(job.spec.stdin, bytes):
            files.create(directory.file("stdin"), job.spec.stdin, sync=not self._ephemeral)
            if not self._ephemeral:  # the names too: the supervisor cannot make this file again
                files.sync_dir(directory.path)
                files.sync_dir(os.path.dirname(directory.path))

    def _note_wish(self, job: Job) -> None:
        """Write beside the job who asked for its end, for the day on which the database is lost."""
        if self._ephemeral:
            return
        try:
            JobDir(self.state_dir, job.id).write_wish(rebuild.wish(job))
        except OSError as error:
            log.warning("job %s: cannot write who asked for its end: %s", job.id, error)

    def _earlier(self, owner: str, key: str | None, spec_hash: str) -> Job | None:
        """Return the job that this key has got from this owner already."""
        if key is None:
            return None
        with self._store.reading() as db, records.one_moment(db):
            return _earlier(db, owner, key, spec_hash)

    def _insertion(self, job: Job, spec_hash: str, key: str | None) -> Operation[Job]:
        def insert(db: sqlite3.Connection) -> Job:
            earlier = None if key is None else _earlier(db, job.owner, key, spec_hash)
            if earlier is None:
                return self._store.jobs.insert(db, job, spec_hash=spec_hash, idempotency_key=key)
            return earlier

        return insert

    def _check_disk(self) -> None:
        """Raise StoreUnavailable if what room is left is for the ends of jobs."""
        if not self._reserve.kept():
            fault = _disk_fault(self.state_dir) or "there was no room"
            raise StoreUnavailable(f"cannot store: {fault}; {reserve.CURE}")

    def _discard(self, job_id: str) -> None:
        """Take back what was prepared for a job that is not, or is an earlier one."""
        JobDir(self.state_dir, job_id).remove()
        self._jobs.release(job_id)


@contextlib.contextmanager
def _shortage_named() -> Iterator[None]:
    """Raise ExecutorUnavailable where no thread can be started: the limit on processes."""
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise ExecutorUnavailable(
            "cannot start a thread: the limit on processes is reached; raise it (TasksMax= of a "
            "service, `ulimit -u` of an account), or end other processes"
        ) from error


def _disk_fault(path: str) -> str | None:
    try:
        found = os.statvfs(path)
    except OSError as error:
        return str(error)
    if found.f_flag & os.ST_RDONLY:
        return f"the file system of {path} is mounted read-only"
    if reserve.lacks_files(found):
        return f"only {found.f_favail} more files can be made (inodes)"
    free = found.f_bavail * found.f_frsize
    return None if free >= _MIN_FREE else f"only {free} bytes are free"


def _earlier(db: sqlite3.Connection, owner: str, key: str, spec_hash: str) -> Job | None:
    found = records.by_key(db, owner, key)
    if found is None:
        return None
    earlier, its_hash = found
    if its_hash != spec_hash:
        raise IdempotencyKeyReused(key)
    return earlier


def _hash(spec: JobSpec) -> str:
    """Return what two equal specs have in common, in every release.

    What is left at its default does not count: a later release has more of it.
    """
    stdin = spec.stdin if isinstance(spec.stdin, bytes) else b""
    given = {name: each for name, each in spec.to_dict().items() if each != _DEFAULT[name]}
    shown = _SORTED.encode(given).encode()
    return hashlib.sha256(shown + hashlib.sha256(stdin).digest()).hexdigest()


def _check_text(what: str, text: str) -> None:
    if not text or len(text) > _MAX_TEXT or records.printable(text) != text:
        raise InvalidRequest(f"the {what} must be a text of 1 to {_MAX_TEXT} characters")
