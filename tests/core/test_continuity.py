"""A database that does not belong to its state directory stops the start, and deletes nothing."""

import os
import shutil
import sqlite3
import uuid

import pytest
from support.core import begin, run, shell, waiting_for
from support.waiting import wait_until
from worker_core import Engine, JobSpec, State, StoreUnavailable
from worker_core.store import backups, continuity, records
from worker_core.testing.fakes import FakeExecutor

CURE = "run `workerd recover`, which makes the records again"


def files(state_dir):
    """Return every file of the jobs, with what it holds."""
    return {
        path.relative_to(state_dir): path.read_bytes()
        for path in (state_dir / "jobs").rglob("*")
        if path.is_file()
    }


@pytest.fixture
def used(tmp_path):
    """A state directory with one finished job."""
    with Engine(tmp_path) as engine:
        run(engine, shell("echo kept"))
    return tmp_path


def empty(state_dir):
    (state_dir / "worker.db").write_bytes(b"")


def without_tables(state_dir):
    os.unlink(state_dir / "worker.db")
    made = sqlite3.connect(state_dir / "worker.db")
    made.executescript("PRAGMA journal_mode = WAL")
    made.close()
    assert (state_dir / "worker.db").stat().st_size


def foreign(state_dir):
    os.unlink(state_dir / "worker.db")
    other = sqlite3.connect(state_dir / "worker.db")
    other.executescript(f"CREATE TABLE t (x); PRAGMA user_version = {len(records.MIGRATIONS)}")
    other.close()


def torn(state_dir):
    (state_dir / "worker.db").write_bytes(os.urandom(8192))


def malformed(state_dir):
    data = (state_dir / "worker.db").read_bytes()
    (state_dir / "worker.db").write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda state_dir: os.unlink(state_dir / "worker.db"), "worker.db is missing, but 1 job"),
        (empty, "is empty, but 1 job has a directory"),
        (without_tables, "has no tables"),
        (foreign, "no such table"),
        (torn, "file is not a database"),
        (malformed, "malformed"),
    ],
    ids=["missing", "empty", "without tables", "foreign", "torn", "malformed"],
)
def test_a_damaged_database_stops_the_start_and_nothing_is_touched(used, damage, why):
    """All outputs would be deleted, and a running job would go on unseen."""
    damage(used)
    before = files(used)
    with pytest.raises(StoreUnavailable) as refused:
        Engine(used)
    assert why in str(refused.value)
    assert CURE in str(refused.value)
    assert f"the copy {used}/backups/worker.db.1 of " in str(refused.value)
    assert files(used) == before
    assert not (used / "supervisor.sock").exists() or not (used / "set-aside").exists()


def test_a_copy_from_before_the_last_start_is_refused(tmp_path):
    """What was done since would be forgotten, and a job that has ended would start again."""
    with Engine(tmp_path, executor=FakeExecutor()):
        pass
    shutil.copy(tmp_path / "worker.db", tmp_path / "copy")
    with Engine(tmp_path, executor=FakeExecutor()):
        pass
    os.replace(tmp_path / "copy", tmp_path / "worker.db")
    with pytest.raises(StoreUnavailable, match="an older copy of the one that was used last"):
        Engine(tmp_path, executor=FakeExecutor())


def test_a_daily_copy_is_known_for_one_although_there_was_no_start_since(used):
    """A kill of a job that waits leaves no trace but in the database: it would run after all."""
    wait_until(lambda: not backups.is_due(str(used)))
    shutil.copy(used / "backups" / "worker.db.1", used / "worker.db")
    with pytest.raises(StoreUnavailable, match="an older copy of the one that was used last"):
        Engine(used)


def test_a_job_that_was_started_after_the_copy_gives_it_away(tmp_path):
    """A copy made by other means would forget a running job, and another engine its process."""
    with Engine(tmp_path) as engine:
        copy = sqlite3.connect(tmp_path / "copy")
        source = sqlite3.connect(tmp_path / "worker.db")
        source.backup(copy)
        source.close()
        copy.close()
        job = begin(engine, shell(waiting_for(tmp_path / "go")))
    os.replace(tmp_path / "copy", tmp_path / "worker.db")
    for rest in ("generation", "worker.db-wal", "worker.db-shm"):  # as if it were of this run
        (tmp_path / rest).unlink(missing_ok=True)
    with pytest.raises(StoreUnavailable) as refused:
        Engine(tmp_path)
    assert f"1 job has no record although it was started ({job.id})" in str(refused.value)
    (tmp_path / "go").touch()


def test_a_new_state_directory_needs_no_database(tmp_path):
    """Nobody could begin."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "not-an-id").mkdir()
    with Engine(tmp_path, executor=FakeExecutor()) as engine:
        assert engine.list().jobs == ()


def crashed(state_dir):
    """Have the state directory look as if its engine had been killed."""
    number, _, _ = (state_dir / "generation").read_text().partition(" ")
    (state_dir / "generation").write_text(number)


def test_after_a_clean_end_the_directories_are_not_compared(used, monkeypatch):
    """With a million jobs each start would take seconds in which nobody is served."""
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(str(path)) or real(path))
    with Engine(used, executor=FakeExecutor()):
        wait_until(lambda: (used / "generation").read_text().isdecimal())  # or a crash is missed
    assert str(used / "jobs") not in listed
    assert " closed " in (used / "generation").read_text()
    crashed(used)
    with Engine(used, executor=FakeExecutor()):
        assert str(used / "jobs") in listed


def test_a_database_that_changed_after_a_clean_end_is_compared(used):
    """A copy that somebody puts in place while nothing runs would be taken for the latest one."""
    with sqlite3.connect(used / "worker.db") as db:
        db.execute("DELETE FROM jobs")
    db.close()
    with pytest.raises(StoreUnavailable, match="1 job has no record although it was started"):
        Engine(used)


def test_what_a_crash_left_of_an_unrecorded_job_is_moved_aside(used):
    """What the database does not know would be deleted, whatever the database is."""
    jobs, never, bare = used / "jobs", str(uuid.uuid4()), str(uuid.uuid4())
    (jobs / never).mkdir()
    (jobs / never / "stdin").write_bytes(b"x")
    (jobs / bare).mkdir()
    (jobs / "lost+found").mkdir()
    crashed(used)
    (kept,) = {each.name for each in jobs.iterdir()} - {never, bare, "lost+found"}
    with Engine(used) as engine:
        wait_until(lambda: {each.name for each in jobs.iterdir()} == {kept, "lost+found"})
        assert engine.read_output(kept) == b"kept\n"
    assert {each.name for each in (used / "set-aside").iterdir()} == {never, bare}
    assert (used / "set-aside" / never / "stdin").read_bytes() == b"x"


def test_what_is_moved_aside_replaces_nothing(tmp_path):
    """Of two things with one name the first would be lost."""
    for number in range(3):
        (tmp_path / "thing").write_text(str(number))
        continuity.set_aside(str(tmp_path), str(tmp_path / "thing"))
    found = {each.name: each.read_text() for each in (tmp_path / "set-aside").iterdir()}
    assert found == {"thing": "0", "thing.1": "1", "thing.2": "2"}


def test_a_later_schema_is_refused_and_says_what_to_install(used):
    """An older release would write records that the later one cannot read."""
    with sqlite3.connect(used / "worker.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnavailable, match="install the release that wrote it, or a later one"):
        Engine(used)


def test_a_removal_that_a_crash_interrupts_early_keeps_the_job(used):
    """A job would lose its output although nobody was told that it is removed."""
    with Engine(used) as engine:
        (job,) = engine.list().jobs
    (used / "jobs" / job.id / "removed").touch()
    with Engine(used) as engine:
        assert engine.read_output(job.id) == b"kept\n"
        assert run(engine, JobSpec("true")).state is State.COMPLETED


def test_who_removes_database_and_jobs_may_begin_anew(used):
    """Whoever wants to forget everything would have to know every file of a state directory."""
    for path in used.glob("worker.db*"):
        path.unlink()
    shutil.rmtree(used / "jobs")
    for _ in range(2):
        with Engine(used) as engine:
            assert run(engine, JobSpec("true")).state is State.COMPLETED
