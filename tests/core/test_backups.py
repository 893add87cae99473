"""Two daily copies of the database."""

import contextlib
import itertools
import os
import sqlite3
import threading
import time

import pytest
from support.core import run
from support.waiting import wait_until
from worker_core import Engine, JobSpec
from worker_core.store import backups
from worker_core.testing.fakes import FakeExecutor


def jobs_in(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT count(*) FROM jobs").fetchone()[0]


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_an_engine_keeps_the_copies_of_two_days(tmp_path):
    """A damaged database could not be made again with names, labels and finished jobs."""
    first, second = map(os.fspath, backups.paths(str(tmp_path)))
    for day in range(3):
        with Engine(tmp_path, executor=FakeExecutor()) as engine:
            wait_until(lambda: not backups.is_due(str(tmp_path)))
            run(engine, JobSpec("true"))
        assert jobs_in(first) == day
        if day:
            assert jobs_in(second) == day - 1
        assert os.stat(first).st_mode & 0o777 == 0o600
        age(first, 90_000)
    assert sorted(os.listdir(tmp_path / "backups")) == ["worker.db.1", "worker.db.2"]


@pytest.mark.parametrize(("seconds", "due"), [(3600, False), (86_401, True), (-3600, True)])
def test_a_copy_is_due_after_a_day_and_after_a_step_of_the_clock(tmp_path, seconds, due):
    """A clock that was a year ahead for a moment would stop the copies for a year."""
    (tmp_path / "backups").mkdir()
    (newest, _) = backups.paths(str(tmp_path))
    assert backups.is_due(str(tmp_path))
    open(newest, "w").close()
    age(newest, seconds)
    assert backups.is_due(str(tmp_path)) is due


@pytest.fixture
def database(tmp_path):
    """A database of some megabytes in WAL mode."""
    path = str(tmp_path / "worker.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript("PRAGMA journal_mode = WAL; CREATE TABLE jobs (x); BEGIN")
        db.executemany("INSERT INTO jobs VALUES (randomblob(4000))", [()] * 2000)
        db.execute("COMMIT")
        yield path


def test_a_copy_blocks_no_commit_and_comes_to_an_end(tmp_path, database):
    """Jobs would be refused while a large database is copied, or the copy would never end."""
    commits = []

    def look():
        """Commit between two steps of the copy, by another connection, which must not wait."""
        with contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as db:
            db.execute("INSERT INTO jobs VALUES (1)")
        commits.append(threading.get_ident())
        return False

    assert backups.copy(database, str(tmp_path / "copy"), look) is None
    assert len(commits) > 3
    assert jobs_in(tmp_path / "copy") == 2000, "the copy is of one moment"
    assert jobs_in(database) == 2000 + len(commits)
    assert os.listdir(tmp_path).count("copy-wal") == 0


def test_closing_does_not_wait_for_a_copy(tmp_path, database):
    """An engine with a large database would not end in time."""
    with pytest.raises(backups.InterruptedCopyError):
        backups.make(str(tmp_path), database, lambda: True)
    assert os.listdir(tmp_path / "backups") == []


def test_a_damaged_database_replaces_no_copy(tmp_path, database):
    """Two days after the damage both copies would be damaged, too."""
    backups.make(str(tmp_path), database, lambda: False)
    newest, _ = backups.paths(str(tmp_path))
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'").fetchone()
    with open(database, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 100)
    with pytest.raises((sqlite3.DatabaseError, backups.CopyFailedError)):
        backups.make(str(tmp_path), database, lambda: False)
    assert jobs_in(newest) == 2000
    assert os.listdir(tmp_path / "backups") == ["worker.db.1"]


@pytest.fixture
def copies(tmp_path, database):
    """Daily copies with a clock that the test sets: `clock[0]`."""
    clock = [1000.0]
    copies = backups.DailyCopies(str(tmp_path), database, lambda: False, lambda: clock[0])
    return copies, clock


def test_a_copy_that_fails_is_tried_less_and_less_often(copies, monkeypatch, caplog):
    """A large database would be copied every minute, in vain, and the log be full of it."""
    made, clock = copies
    attempts = []

    def failing(*_):
        attempts.append(clock[0])
        raise sqlite3.DatabaseError("malformed" if len(attempts) != 3 else "locked")

    with monkeypatch.context() as broken:
        broken.setattr(backups, "copy", failing)
        for _ in range(3 * 24 * 60):  # the engine asks each minute, here for three days
            assert not made.make_if_due()
            clock[0] += 60
    waits = [later - sooner for sooner, later in itertools.pairwise(attempts)]
    assert waits[:6] == [60, 120, 240, 480, 960, 1920]
    assert max(waits) <= 86_400
    messages = [record.getMessage() for record in caplog.records]
    assert ["malformed" in each for each in messages] == [True, False, True]
    clock[0] += 86_400
    assert made.make_if_due()
    assert not made.make_if_due()


def test_without_space_no_copy_is_begun(copies, monkeypatch, caplog):
    """The copy would fill the disk that ends of jobs need."""
    made, clock = copies
    monkeypatch.setattr(backups, "_SPARE", 1 << 60)
    assert not made.make_if_due()
    clock[0] += 60
    assert not made.make_if_due()
    assert caplog.text.count("the disk has too little free space") == 1
