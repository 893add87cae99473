"""Which finished jobs are removed."""

import os

from support.core import run, shell
from support.waiting import wait_until
from worker_core import Engine, EngineSettings, JobSpec, retention
from worker_core.retention import Finished, Kept, expired

JOBS = [Finished(str(n), "ab"[n % 2], ended_at=n * 10.0, output_bytes=100) for n in range(6)]
KEPT = {"a": Kept(3, 300), "b": Kept(3, 300)}


def gone(too_old=None, **limits):
    settings = EngineSettings(**{"keep_age": None} | limits)
    return expired(iter(JOBS), KEPT, settings, too_old)


def test_without_limits_everything_stays():
    """Jobs would vanish by surprise."""
    assert gone() == []


def test_the_oldest_go_by_age_count_and_bytes():
    """A server would fill up, or the newest jobs go first."""
    assert gone(too_old=25.0) == ["0", "1", "2"]
    assert gone(keep_count=4) == ["0", "1"]
    assert gone(keep_count=0) == [str(n) for n in range(6)]
    assert gone(keep_bytes=250) == ["0", "1", "2", "3"]
    assert gone(keep_bytes=600) == []


def test_the_bytes_of_one_owner_cost_nobody_else():
    """A user who writes much would make the server delete the jobs of others."""
    rest = Kept(1, 0)
    settings = EngineSettings(keep_age=None, keep_bytes_per_owner=200)
    assert expired(iter(JOBS), {"a": Kept(3, 300), "b": rest}, settings, None) == ["0"]


def test_whoever_keeps_the_most_loses_jobs_first():
    """A user could have the results of all others removed by running `true` often enough."""
    jobs = [Finished("b1", "b", 1.0, 100), Finished("b2", "b", 2.0, 100)]
    jobs += [Finished(f"a{n}", "a", 3.0 + n, 10) for n in range(8)]
    kept = {"a": Kept(8, 80), "b": Kept(2, 200)}

    def removed(**limits):
        return expired(iter(jobs), kept, EngineSettings(**{"keep_age": None} | limits), None)

    assert removed(keep_count=6) == ["a0", "a1", "a2", "a3"]
    assert removed(keep_count=2) == ["b1", *(f"a{n}" for n in range(7))]
    assert removed(keep_bytes=180) == ["b1"]  # a's 80 bytes are less than its share
    assert removed(keep_bytes=100) == ["b1", "b2", "a0", "a1", "a2"]


def test_no_more_is_read_than_needed():
    """Each minute the records of all jobs would be read."""
    jobs = iter(JOBS)
    expired(jobs, KEPT, EngineSettings(), 5.0)
    assert next(jobs).id == "2"


def test_an_engine_removes_what_it_does_not_keep(tmp_path):
    """Records and output of old jobs would stay for ever."""
    with Engine(tmp_path) as engine:
        old = run(engine, shell("echo x"))
        new = run(engine, shell("echo y"))
    with Engine(tmp_path, settings=EngineSettings(keep_count=1)) as engine:
        wait_until(lambda: [job.id for job in engine.list().jobs] == [new.id])
        wait_until(lambda: os.listdir(tmp_path / "jobs") == [new.id])
        assert engine.read_output(new.id) == b"y\n"
        assert old.id != new.id


def test_a_job_that_its_owner_removes_meanwhile_stops_nothing(tmp_path, monkeypatch, caplog):
    """One removal at the wrong moment would put off all others, with a traceback in the log."""
    with Engine(tmp_path) as engine:
        old = run(engine, shell("echo x"))
    unknown = "00000000-0000-4000-8000-000000000000"
    monkeypatch.setattr(retention, "expired", lambda *_: [unknown, old.id])
    with Engine(tmp_path) as engine:
        wait_until(lambda: engine.list().jobs == ())
    assert "retention failed" not in caplog.text


def test_inputs_and_specs_count_as_the_output_does(tmp_path):
    """A user could fill the disk with inputs and arguments in spite of the setting."""
    megabyte = b"x" * 1_000_000
    settings = EngineSettings(keep_bytes=2_500_000)
    with Engine(tmp_path) as engine:
        jobs = [
            run(engine, JobSpec("true", stdin=megabyte)),
            run(engine, JobSpec("true", ["x" * 100_000] * 10)),
            run(engine, shell("head -c 1000000 /dev/zero | tr '\\0' x")),
        ]
        assert engine.statistics().output_bytes > 4_000_000
    with Engine(tmp_path, settings=settings) as engine:
        wait_until(lambda: [job.id for job in engine.list().jobs] == [jobs[2].id])
