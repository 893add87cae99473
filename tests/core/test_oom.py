"""When memory is short, the kernel kills a job and not the supervisor."""

import os
import subprocess
from pathlib import Path

import pytest
from support.core import shell, supervisor_pid
from worker_core import Engine
from worker_core.supervisor import oom


@pytest.fixture
def score(tmp_path, monkeypatch):
    """A file in place of the kernel's, which every account may write."""
    path = tmp_path / "oom_score_adj"
    path.write_text("100\n")
    monkeypatch.setattr(oom, "_PATH", str(path))
    monkeypatch.setattr(oom, "_of_jobs", None)
    return path


def test_the_score_is_the_lowest_and_no_job_has_it(score):
    """The kernel would kill the supervisor, and the ends of all jobs would be lost."""
    oom.protect()
    assert score.read_text().split()[0] == "-1000"
    score.write_text("")
    oom.expose()
    assert score.read_text() == "100"


def test_the_score_of_jobs_outlives_an_upgrade(score, monkeypatch):
    """After a reload all jobs would have the lowest score, which the supervisor has then."""
    oom.protect()
    oom.pass_on()
    score.write_text("-1000")
    monkeypatch.setattr(oom, "_of_jobs", None)
    oom.protect()
    assert "WORKER_OOM_SCORE" not in os.environ
    score.write_text("")
    oom.expose()
    assert score.read_text() == "100"


def test_without_the_right_to_change_the_score_nothing_changes(score):
    """A supervisor without privileges would not start, or could not start jobs."""
    score.unlink()
    score.mkdir()
    oom.protect()
    oom.expose()
    oom.pass_on()
    assert "WORKER_OOM_SCORE" not in os.environ


def test_a_job_has_the_score_of_the_process_that_started_the_supervisor(tmp_path):
    """A job could use all memory, and the kernel would kill everything else."""
    usual = Path("/proc/self/oom_score_adj").read_text()
    lowest = subprocess.run(
        ["sh", "-c", "echo -1000 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj"],
        capture_output=True, text=True, check=False,
    ).stdout or usual  # fmt: skip
    with Engine(tmp_path / "state") as engine:
        job = engine.wait(engine.submit(shell("cat /proc/self/oom_score_adj"), "me").id, 20)
        assert engine.read_output(job.id).decode() == usual
        pid = supervisor_pid(tmp_path / "state")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == lowest
