"""The store: migrations, one writer, commits in groups, writes that must be done."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from worker_core import Engine, JobSpec, StoreUnavailable, records
from worker_core.errors import EngineClosed, JobNotFound
from worker_core.job import Job
from worker_core.state import State
from worker_core.store import Store

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
        job,
        spec_hash="hash",
        idempotency_key=None,
        version=store.next_version(),
    )


def ids(store):
    with store.reading() as db:
        return [job.id for job in records.active(db)]


def test_what_is_done_is_on_the_disk(store, tmp_path):
    """An acknowledged job would be lost with the power."""
    store.write(insertion(store, "a")).result(10)
    other = sqlite3.connect(tmp_path / "worker.db")
    assert other.execute("SELECT id FROM jobs").fetchall() == [("a",)]
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    for name in os.listdir(tmp_path):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_many_writes_share_a_commit_and_keep_their_order(store):
    """A thousand jobs would cost a thousand fsyncs, or end before they began."""
    commits = []
    blocked, told = threading.Event(), []
    store._db.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    store.write(lambda _: blocked.wait(10))
    writes = [
        store.write(insertion(store, str(n)), then=lambda job: told.append(job.id))
        for n in range(100)
    ]
    blocked.set()
    for write in writes:
        write.result(10)
    assert told == [str(n) for n in range(100)] == ids(store)
    assert len(commits) <= 3


def test_one_bad_write_takes_nobody_with_it(store):
    """One user's mistake would refuse the jobs of all others in the same commit."""

    def fails(db):
        db.execute("INSERT INTO jobs (id) VALUES ('half')")

    blocked = threading.Event()
    store.write(lambda _: blocked.wait(10))
    good, bad = store.write(insertion(store, "a")), store.write(fails)
    missing = store.write(lambda db: records.get(db, "none"))
    last = store.write(insertion(store, "b"))
    blocked.set()
    with pytest.raises(StoreUnavailable, match="NOT NULL"):
        bad.result(10)
    with pytest.raises(JobNotFound):
        missing.result(10)
    assert good.result(10).id == "a"
    assert last.result(10).id == "b"
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

    first = store.write(must("first"), must=True)
    with pytest.raises(StoreUnavailable, match="disk I/O error"):
        store.write(must("refused")).result(10)
    second = store.write(must("second"), must=True)
    store.write(insertion(store, "a")).result(10)  # others go on meanwhile
    assert not first.done()
    working[0] = True
    second.result(10)
    assert done == ["first", "second"]


def test_what_follows_a_write_cannot_stop_the_store(store):
    """A fault in a listener would end all writing."""
    store.write(insertion(store, "a"), then=lambda _: 1 / 0).result(10)
    store.write(insertion(store, "b")).result(10)
    assert ids(store) == ["a", "b"]


def test_a_write_that_meets_the_end_is_done(tmp_path):
    """A request during the end of the daemon would wait for ever."""
    store = Store(str(tmp_path / "worker.db"))
    closing, real = threading.Thread(target=store.close), store._queue

    class SlowQueue:
        get, get_nowait = real.get, real.get_nowait

        def put(self, write):
            if write is not None:
                closing.start()
                closing.join(0.2)  # let it overtake if it can
            real.put(write)

    store._queue = SlowQueue()
    assert store.write(lambda _: "done").result(10) == "done"
    closing.join(10)
    with pytest.raises(EngineClosed):
        store.write(lambda _: None).result(10)


def test_more_readers_than_are_kept(store):
    """With many requests at a time reading would fail, or connections stay open."""
    everybody = threading.Barrier(30, timeout=10)
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
