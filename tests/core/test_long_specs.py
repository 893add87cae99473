"""Jobs with long specs: which parts are read when, and that nothing is lost."""

import contextlib
import json
import os
import sqlite3

import pytest
from support.core import run
from support.waiting import wait_until
from worker_core import Engine, EngineSettings, Isolation, JobSpec
from worker_core.disk import statedir
from worker_core.model.spec import outline
from worker_core.model.state import State
from worker_core.store import records

LONG = JobSpec(
    "sh",
    ["-c", 'printf %s "$1" | wc -c', "sh", "x" * 100_000, "\udcff"],
    env={"A": "\udcff"},
    cwd="/",
    name="long",
    labels={"team": "blue"},
    separate_stderr=True,
)


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path, settings=EngineSettings(max_running=1)) as engine:
        yield engine


def test_a_long_job_runs_and_is_shown_whole(engine):
    """A job with a long command line would be run or shown as another one."""
    job = run(engine, LONG)
    assert engine.read_output(job.id).strip() == b"100000"
    stored = LONG.bounded(engine.settings.output_limit)
    assert engine.get(job.id).spec == stored
    assert [each.spec for each in engine.list().jobs] == [stored]


def test_one_that_waits_starts_with_all_of_it(engine):
    """A job that had to wait would start without its arguments."""
    first = engine.submit(JobSpec("sleep", ["600"]), "me")
    second = engine.submit(LONG, "me")
    assert second.state is State.QUEUED
    engine.kill(first.id, now=True, wait=30)
    assert engine.wait(second.id, 30).state is State.COMPLETED
    assert engine.read_output(second.id).strip() == b"100000"


def test_one_that_waits_over_a_restart_starts_with_all_of_it(tmp_path):
    """After a restart of the server a job would start without its arguments."""
    settings = EngineSettings(max_running=1)
    with Engine(tmp_path, settings=settings) as engine:
        first = engine.submit(JobSpec("sleep", ["600"]), "me")
        second = engine.submit(LONG, "me")
    with Engine(tmp_path, settings=settings) as engine:
        engine.kill(first.id, now=True, wait=30)
        assert engine.wait(second.id, 30).state is State.COMPLETED
        assert engine.read_output(second.id).strip() == b"100000"


def test_the_same_key_gives_the_same_job(engine):
    """A request sent again after a lost answer would run a long job twice."""
    first = engine.submit(LONG, "me", idempotency_key="k")
    again = engine.submit(LONG, "me", idempotency_key="k")
    assert again.id == first.id
    assert engine.wait(first.id, 30).state is State.COMPLETED


def test_most_requests_read_only_the_outline(engine):
    """Hundreds that wait for a job of 6 MiB would hold its spec hundreds of times."""
    job = run(engine, LONG)
    for outlined in (job, engine.get(job.id, whole=False), *engine.list(whole=False).jobs):
        assert not outlined.spec.whole
        assert outlined.spec.args == ()
        assert (outlined.spec.name, outlined.spec.labels) == ("long", {})
        assert outlined.spec.separate_stderr
        assert outlined.status_view() == engine.get(job.id).status_view()


def test_the_outline_says_how_it_is_confined():
    """What a job in namespaces uses would be counted wrongly."""
    isolation = Isolation(read_only=True, pid_namespace=True, writable=["/" + "x" * 4000] * 2)
    stored = json.loads(json.dumps(JobSpec("true", isolation=isolation).to_dict()))
    found = JobSpec.from_stored(outline(stored))
    assert found.isolation == Isolation(read_only=True, pid_namespace=True)


def test_filters_see_long_jobs(engine):
    """A long job could not be found by its label."""
    job = run(engine, LONG)
    assert [each.id for each in engine.list(labels={"team": "blue"}, name="long").jobs] == [job.id]


def test_a_page_ends_before_it_has_too_many_bytes(engine):
    """30 jobs with an argument of 8 MiB each took 1.2 GB for one page."""
    ids = [run(engine, LONG).id for _ in range(5)]
    ids += [run(engine, JobSpec("true")).id]
    found, sizes, cursor = [], [], None
    while True:
        page = engine.list(cursor=cursor, max_bytes=250_000)
        found += [job.id for job in page.jobs]
        sizes.append(len(page.jobs))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == ids[::-1]
    assert sizes == [3, 2, 1]
    assert len(engine.list(max_bytes=10).jobs) == 1
    assert engine.list(limit=6).next_cursor is None
    assert engine.list(limit=5, max_bytes=1 << 30).next_cursor is not None


def test_a_removed_job_leaves_nothing(engine, tmp_path):
    """The database would grow for ever."""
    job = run(engine, LONG)
    engine.remove(job.id)
    with engine._store.reading() as db:
        assert db.execute("SELECT count(*) FROM long_specs").fetchone()[0] == 0


def test_long_specs_of_an_earlier_release_are_moved(tmp_path):
    """An upgrade would lose long jobs, or leave them where they are slow."""
    with Engine(tmp_path) as engine:
        job_id = run(engine, LONG).id
        stored = engine.get(job_id).spec
    path = os.path.join(tmp_path, statedir.DATABASE)
    os.rename(path, f"{path}.new")
    with contextlib.closing(sqlite3.connect(path)) as db:  # as version 3 of the schema had it
        for script in records.MIGRATIONS[:3]:
            db.executescript(script)
        db.executescript("PRAGMA user_version = 3")
        db.execute("ATTACH ? AS new", (f"{path}.new",))
        db.execute("INSERT INTO meta SELECT * FROM new.meta")
        columns = ", ".join(row[1] for row in db.execute("PRAGMA main.table_info(jobs)"))
        db.execute(f"INSERT INTO jobs ({columns}) SELECT {columns} FROM new.jobs")
        db.execute(
            "UPDATE jobs SET spec = (SELECT spec FROM new.long_specs AS l WHERE l.id = jobs.id)"
        )
        db.commit()
    with Engine(tmp_path) as engine:
        assert engine.get(job_id).spec == stored
        assert not engine.get(job_id, whole=False).spec.whole
        wait_until(lambda: engine.list(labels={"team": "blue"}).jobs)
