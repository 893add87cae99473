"""The store: migrations, one writer, commits in groups, writes that must be done."""

import contextlib
import dis
import errno
import functools
import gc
import os
import sqlite3
import sys
import threading
import warnings
from pathlib import Path

import pytest
from support.waiting import wait_until
from worker_core import Engine, JobSpec, StoreUnavailable
from worker_core.model.errors import EngineClosed, JobNotFound
from worker_core.model.job import Job
from worker_core.model.state import State
from worker_core.store import records
from worker_core.store.database import Store

DATA = Path(__file__).parent / "data"


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "worker.db"))
    yield store
    store.close()


def insertion(store, job_id, owner="me"):
    job = Job(job_id, owner, JobSpec("true"), State.QUEUED, created_at=1.0)
    return lambda db: records.insert(
        db,
        store.recent,
        job.replaced(version=store.next_version()),
        spec_hash="hash",
        idempotency_key=None,
    )


def ids(store):
    with store.reading() as db:
        return [job.id for job in records.active(db)]


def test_what_is_done_is_on_the_disk(store, tmp_path):
    """An acknowledged job would be lost with the power."""
    store.write(insertion(store, "a")).result()
    other = sqlite3.connect(tmp_path / "worker.db")
    assert other.execute("SELECT id FROM jobs").fetchall() == [("a",)]
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    for name in os.listdir(tmp_path):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


@contextlib.contextmanager
def busy(store):
    """Have a thread lead, with a write that takes as long as this block."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        assert go_on.wait(10)

    leader = threading.Thread(target=lambda: store.write(wait).result())
    leader.start()
    assert begun.wait(10)
    try:
        yield
    finally:
        go_on.set()
        leader.join(10)


def in_threads(*calls):
    """Call each in a thread of its own, and wait for all."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for each in threads:
        each.start()
    return threads


def joined(threads):
    for each in threads:
        each.join(10)
    return not any(each.is_alive() for each in threads)


def test_many_writes_share_a_commit_and_keep_their_order(store):
    """A thousand jobs would cost a thousand fsyncs, or end before they began."""
    commits, told = [], []
    store._db.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    with busy(store):
        writes = [
            store.write(insertion(store, str(n)), lambda job: told.append(job.id))
            for n in range(100)
        ]
        threads = in_threads(*(write.result for write in writes))
    assert joined(threads)
    assert told == [str(n) for n in range(100)] == ids(store)
    assert len(commits) <= 3


def test_a_caller_writes_by_its_own_thread(store):
    """Each job would wake another thread twice, which takes longer than the write."""
    seen = []
    assert joined(
        in_threads(lambda: store.write(lambda _: seen.append(threading.get_ident())).result())
    )
    store.write(lambda _: seen.append(threading.get_ident())).result()
    assert store._thread.ident not in seen[:1]
    # A signal handler may take the main thread out of anything: it never leads.
    assert seen[1:] == [store._thread.ident]


def test_the_main_thread_may_be_interrupted_while_it_waits(store, monkeypatch):
    """Ctrl-C in a program that uses the library would stop all writing for ever."""
    real = threading.Lock

    class Interrupted:
        def __init__(self):
            self._lock = real()
            self._calls = 0

        def acquire(self, *args, **more):
            self._calls += 1
            if self._calls == 2:  # the first is its construction
                raise KeyboardInterrupt
            return self._lock.acquire(*args, **more)

        def release(self):
            self._lock.release()

    with busy(store):
        monkeypatch.setattr("worker_core.store.database.threading.Lock", Interrupted)
        write = store.write(insertion(store, "a"))
        monkeypatch.undo()
        with pytest.raises(KeyboardInterrupt):
            write.result()
    store.write(insertion(store, "b")).result()
    assert ids(store) == ["a", "b"]


def interrupted(call, number):
    """Call it, and interrupt it after its Nth call that returns, where a signal handler may; return
    whether it came that far."""
    before, left = {}, number

    def trace(frame, event, _):
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            code = frame.f_code.co_code
            last, before[frame] = before.get(frame), frame.f_lasti
            if last is not None and dis.opname[code[last]].startswith("CALL"):
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
        return trace

    traced = sys.gettrace()
    # Python 3.12 tells of single steps only if some frame wanted that before.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(traced)
    return False


@pytest.mark.parametrize("way", ["write", "post", "read"])
def test_the_main_thread_may_be_interrupted_anywhere(store, way):
    """Ctrl-C in a program that uses the library would stop all writing for ever."""

    def read():
        with store.reading():
            pass

    def others():
        store.fault = "it was full"
        assert store.check() is None  # by the thread that stands in for the main one
        store.write(lambda _: None).result()
        read()
        done.append(True)

    calls = {
        "write": lambda: store.write(lambda _: None).result(),
        "post": lambda: store.post((lambda _: None, None)),
        "read": read,
    }
    number, done = 0, []
    while interrupted(calls[way], number):
        number += 1
        assert joined(in_threads(others))
        assert len(done) == number
    assert number > 3
    with warnings.catch_warnings():  # a connection that was lent at that instant is lost
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_a_caller_deep_in_its_own_calls_does_not_lead(store):
    """It would run into the limit on recursion in the middle, and all others wait for it."""
    seen = []

    def descend(levels):
        if levels:
            return descend(levels - 1)
        store.post((lambda _: seen.append(threading.get_ident()), None))
        return store.write(lambda _: seen.append(threading.get_ident())).result()

    def quietly(levels):
        with contextlib.suppress(RecursionError):  # there may be no room even for asking
            descend(levels)

    for levels in range(sys.getrecursionlimit() - 100, sys.getrecursionlimit()):
        assert joined(in_threads(functools.partial(quietly, levels)))
    assert joined(in_threads(lambda: store.write(lambda _: None).result()))
    assert set(seen) == {store._thread.ident}


def test_whoever_waits_leads_next(store):
    """One unlucky caller would write for all others, for as long as they keep coming."""
    leaders = []

    def note(_):
        leaders.append(threading.get_ident())

    def twice():
        for _ in range(2):
            store.write(note).result()

    with busy(store):
        threads = in_threads(*[twice] * 8)
        wait_until(lambda: len(store._waiting) == 8)
    assert joined(threads)
    assert len(leaders) == 16
    assert len(set(leaders)) > 1


def test_one_bad_write_takes_nobody_with_it(store):
    """One user's mistake would refuse the jobs of all others in the same commit."""

    def fails(db):
        db.execute("INSERT INTO jobs (id) VALUES ('half')")

    with busy(store):
        good, bad = store.write(insertion(store, "a")), store.write(fails)
        missing = store.write(lambda db: records.get(db, "none"))
        last = store.write(insertion(store, "b"))
    with pytest.raises(StoreUnavailable, match="NOT NULL"):
        bad.result()
    with pytest.raises(JobNotFound):
        missing.result()
    assert good.result().id == "a"
    assert last.result().id == "b"
    assert ids(store) == ["a", "b"]


def test_what_must_be_done_is_tried_until_it_is_in_its_order(store):
    """While the disk is full the end of a job would be lost, or come before its start."""
    working, done = [False], []

    def must(name):
        def run(_):
            if not working[0]:
                raise sqlite3.OperationalError("disk I/O error")
            done.append(name)

        return run

    store.post((must("first"), None))
    with pytest.raises(StoreUnavailable, match="disk I/O error"):
        store.write(must("refused")).result()
    store.post((must("second"), None))
    store.write(insertion(store, "a")).result()  # others go on meanwhile
    assert done == []
    working[0] = True
    wait_until(lambda: len(done) == 2)
    assert done == ["first", "second"]


def test_whether_it_is_well_again_is_tried(store):
    """A server would stay out of service after its disk had been full."""

    def fails(_):
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnavailable):
        store.write(fails).result()
    assert store.fault == "disk I/O error"
    assert store.check() is None


def test_a_check_waits_for_no_disk_that_hangs(store, monkeypatch):
    """Whoever watches the server would hang with it, and hear nothing."""
    monkeypatch.setattr("worker_core.store.database._CHECK_SECONDS", 0.05)
    store.fault = "it was full"
    with busy(store):
        assert store.check() == "it was full"
    assert store.check() is None


def test_what_follows_a_write_cannot_stop_the_store(store):
    """A fault in a listener would end all writing."""
    store.write(insertion(store, "a"), lambda _: 1 / 0).result()
    store.write(insertion(store, "b")).result()
    assert ids(store) == ["a", "b"]


def test_a_write_that_meets_the_end_is_done(tmp_path):
    """A request during the end of the daemon would wait for ever."""
    store = Store(str(tmp_path / "worker.db"))
    with busy(store):
        write = store.write(lambda _: "done")
        threads = in_threads(store.close)
        wait_until(lambda: store._closed)
    assert write.result() == "done"
    assert joined(threads)
    with pytest.raises(EngineClosed):
        store.write(lambda _: None)
    store.post((lambda _: 1 / 0, None))


def test_the_end_waits_for_who_leads(tmp_path):
    """A request during the end of the daemon would find the database closed under its hands."""
    looked = threading.Event()

    class Late(Store):
        """The one that stands in leads; then a write is put, the end begins, and its caller leads
        just before the other one looks again."""

        looks = 0

        def lead(self):
            if threading.current_thread() is not self._thread:
                return super().lead()
            self.looks += 1
            if self.looks == 1:
                led = super().lead()
                threads.extend(in_threads(caller))
                assert put.wait(10)
                threads.extend(in_threads(self.close))
                wait_until(lambda: self._closed)
                return led
            if self.looks == 2:
                go_on.set()
                assert begun.wait(10)
            if self.looks == 3:
                looked.set()
            return super().lead()

        def _stand_in(self):
            super()._stand_in()
            looked.set()

    def slow(_):
        begun.set()
        assert looked.wait(10)
        return "done"

    def caller():
        write = late.write(slow)
        put.set()
        assert go_on.wait(10)
        results.append(write.result())

    put, go_on, begun = threading.Event(), threading.Event(), threading.Event()
    threads, results = [], []
    late = Late(str(tmp_path / "worker.db"))
    late.post((lambda _: None, None))
    wait_until(lambda: len(threads) == 2)
    assert joined(threads)
    assert results == ["done"]
    assert late.looks > 2


def test_more_readers_than_are_kept(store):
    """With many requests at a time reading would fail, or connections stay open."""
    everybody = threading.Barrier(30, timeout=30)
    seen = []

    def read():
        with store.reading() as db:
            everybody.wait()
            seen.append(len(records.active(db)))

    threads = [threading.Thread(target=read) for _ in range(30)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert seen == [0] * 30


def test_a_later_version_is_refused_and_untouched(tmp_path):
    """A downgrade would destroy what the later release has stored."""
    path = tmp_path / "worker.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(StoreUnavailable, match="has version 999 and this release knows versions"):
        Store(str(path))


def test_what_is_no_database_is_refused(tmp_path):
    """A damaged file would be a traceback."""
    (tmp_path / "worker.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        Engine(tmp_path)


def test_a_state_directory_of_the_first_version_opens(tmp_path):
    """An upgrade would lose the jobs of everybody who has used worker before."""
    db = sqlite3.connect(tmp_path / "worker.db")
    db.executescript((DATA / "version_1.sql").read_text())
    db.close()
    with Engine(tmp_path) as engine:
        jobs = [engine.wait(job.id, 10) for job in engine.list(owner="alice").jobs]
        assert [(job.spec.command, job.state) for job in jobs] == [
            ("sleep", State.LOST),  # it ran in the boot of long ago
            ("make", State.FAILED),
        ]
        assert jobs[1].usage.max_rss_bytes == 52_428_800
        assert jobs[1].spec.labels == {"project": "x"}
        assert engine.submit(JobSpec("true"), "alice").enforced == {}
    db = sqlite3.connect(tmp_path / "worker.db")
    assert db.execute("PRAGMA user_version").fetchone() == (len(records.MIGRATIONS),)
    db.close()


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EACCES, "Permission denied; make it readable and writable for the account"),
        (errno.EROFS, "Read-only file system; mount the file system so that it can be written"),
        (errno.EISDIR, "Is a directory"),
    ],
)
def test_a_database_that_cannot_be_opened_names_the_cure(tmp_path, monkeypatch, number, cure):
    """An administrator would know that it fails, and not what to do."""

    def failing(path, *_):
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", failing)
        with pytest.raises(StoreUnavailable) as refused:
            Store(str(tmp_path / "worker.db"))
    assert str(refused.value).startswith(f"cannot open {tmp_path}/worker.db: {cure}")


def test_what_is_read_at_one_moment_lacks_nothing_that_is_removed_meanwhile(store):
    """A list of jobs would fail because one of them is removed."""
    for job_id in ("a", "b"):
        store.write(insertion(store, job_id)).result()
    with store.reading() as db:
        with records.one_moment(db):
            assert len(records.active(db)) == 2
            store.write(lambda each: records.delete(each, store.recent, "a")).result()
            assert records.get(db, "a").id == "a"
        assert [job.id for job in records.active(db)] == ["b"]
        with contextlib.suppress(ZeroDivisionError), records.one_moment(db):
            raise ZeroDivisionError
        assert not db.in_transaction
