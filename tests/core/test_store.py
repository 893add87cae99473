"""The store: opening, migrations, durability, reading and checking."""

import contextlib
import errno
import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from worker_core import Engine, JobSpec, StoreUnavailable
from worker_core.model.errors import JobNotFound
from worker_core.model.job import Job
from worker_core.model.state import State
from worker_core.store import listing, records
from worker_core.store.listing import Filter
from worker_core.store.store import Store

DATA = Path(__file__).parent / "data"


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "worker.db"))
    yield store
    store.close()


def insertion(store, job_id, owner="me"):
    job = Job(job_id, owner, JobSpec("true"), State.QUEUED, created_at=1.0)
    return lambda db: store.jobs.insert(db, job, spec_hash="hash", idempotency_key=None)


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
    assert store._database._writer.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    for name in os.listdir(tmp_path):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_check_tries_a_write_after_a_disk_error(store):
    """A server would stay out of service after its disk had been full."""

    def fails(_):
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnavailable):
        store.write(fails).result()
    assert store.fault == "disk I/O error"
    assert store.check() is None


def test_a_check_does_not_wait_for_a_disk_that_hangs(store, monkeypatch):
    """A program that watches the server would hang with it, and report nothing."""
    monkeypatch.setattr("worker_core.store.store._CHECK_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    def hang(_):
        begun.set()
        assert go_on.wait(10)
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnavailable):
        store.write(lambda db: db.execute("nonsense")).result()
    write = store.write(hang)
    assert begun.wait(10)
    assert store.check() == 'near "nonsense": syntax error'
    go_on.set()
    with pytest.raises(StoreUnavailable, match="disk I/O error"):
        write.result()
    monkeypatch.undo()
    assert store.check() is None


def test_a_bad_statement_stores_nothing_of_its_write(store):
    """Half of a change would be stored."""

    def fails(db):
        insertion(store, "half")(db)
        db.execute("INSERT INTO jobs (id) VALUES ('other')")

    with pytest.raises(StoreUnavailable, match="NOT NULL"):
        store.write(fails).result()
    with pytest.raises(JobNotFound):
        store.job("half")
    assert ids(store) == []


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
        assert engine.list(owner="alice", labels={"project": "x"}).jobs == (jobs[1],)
        assert engine.submit(JobSpec("true"), "alice").enforced == {}
    db = sqlite3.connect(tmp_path / "worker.db")
    assert db.execute("PRAGMA user_version").fetchone() == (len(records.MIGRATIONS),)
    db.close()


def test_finished_jobs_of_schema_4_are_indexed_and_counted(tmp_path, caplog):
    """After an upgrade the old jobs would be missing from lists, metrics and retention."""
    path = str(tmp_path / "worker.db")
    with contextlib.closing(sqlite3.connect(path)) as db:
        for number, script in enumerate(records.MIGRATIONS[:4], 1):
            db.executescript(f"{script}; PRAGMA user_version = {number};")
        spec = JobSpec("true", name="x", labels={"a": "\udcff", "b": "2"})
        text = json.dumps(spec.to_dict(), separators=(",", ":"))
        db.executemany(
            "INSERT INTO jobs (id, version, owner, state, name, spec, spec_hash, created_at,"
            " ended_at, output_bytes) VALUES (?, ?, 'me', ?, 'x', ?, '', ?, ?, 10)",
            [
                ("a", 1, "completed", text, 100.0, 200.0),
                ("b", 2, "failed", text, 300.0, 400.0),
                ("c", 3, "queued", text, 290.0, None),
                ("d", 4, "lost", text, 310.0, 500.0),
            ],
        )
        db.commit()
    store = Store(path)
    newest = len(records.MIGRATIONS)
    assert f"{path} is brought from schema 4 to {newest}" in caplog.text
    with store.reading() as db:

        def listed(**wanted):
            return [job.id for job in listing.page(db, Filter(**wanted), 9, None)[0]]

        assert listed(owner="me", labels={"a": "\udcff"}) == ["d", "c", "b", "a"]
        assert listed(owner="me", states=[State.FAILED, State.LOST], name="x") == ["d", "b"]
        assert [listed(since=at) for at in (295.0, 300.0, 305.0)] == [["d", "b"], ["d", "b"], ["d"]]
        states, size = records.totals(db)
        assert (states, size) == ({"completed": 1, "failed": 1, "lost": 1, "queued": 1}, 30)
        assert (records.kept(db)["me"].jobs, store.jobs.version) == (3, 4)
    store.close()


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

    def end_and_remove(db, job_id):
        ended = records.get(db, job_id).replaced(state=State.KILLED, ended_at=2.0)
        store.jobs.save(db, ended)
        assert store.jobs.remove(db, ["b", job_id, "unknown"]) == [job_id]

    for job_id in ("a", "b"):
        store.write(insertion(store, job_id)).result()
    with store.reading() as db:
        with records.one_moment(db):
            assert len(records.active(db)) == 2
            store.write(lambda each: end_and_remove(each, "a")).result()
            assert records.get(db, "a").state is State.QUEUED
        assert [job.id for job in records.active(db)] == ["b"]
        with contextlib.suppress(ZeroDivisionError), records.one_moment(db):
            raise ZeroDivisionError
        assert not db.in_transaction
