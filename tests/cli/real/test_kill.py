"""Killing jobs: the true status of each, and the exit code."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from support.cli_run import Worker


def test_kill_prints_the_status(user: Worker) -> None:
    """A user would not know whether the job has ended."""
    job = user.ok("run", "sleep", "60").line
    assert user.ok("kill", job).out == f"{job} killed\n"
    name = user.environ["WORKER_USER"]
    assert user.ok("status", job).out == f"killed (by {name})\n"


def test_kill_of_a_finished_job_prints_how_it_ended(user: Worker) -> None:
    """A user would believe to have killed a job that had ended before."""
    job = user.ok("run", "true").line
    user.ok("wait", "-q", job)
    done = user.run("kill", job)
    assert (done.code, done.stdout) == (1, b"")
    assert done.stderr == f"worker: job {job} has already completed with exit code 0\n"


def test_kill_of_several(user: Worker) -> None:
    """One unknown job would keep the others from being killed, or their status unknown."""
    ended = user.ok("run", "true").line
    user.ok("wait", "-q", ended)
    running = [user.ok("run", "sleep", "60").line for _ in range(3)]
    done = user.run("kill", running[0], ended, "ffffffff", running[1], running[2])
    assert done.code == 1
    assert sorted(done.out.splitlines()) == sorted(f"{job} killed" for job in running)
    assert f"{ended} has already completed" in done.stderr
    assert "you have no job whose id begins with ffffffff" in done.stderr


def test_a_job_that_is_named_twice_is_killed_once(user: Worker) -> None:
    """A script that names a job twice would fail, although the job was killed."""
    job = user.ok("run", "sleep", "60").line
    assert user.ok("kill", job[:8], "@last", job, job).out == f"{job} killed\n"
    assert (
        user.run("wait", job, "@last").out == f"{job} killed (by {user.environ['WORKER_USER']})\n"
    )


def test_several_stop_side_by_side(user: Worker) -> None:
    """Ten stubborn jobs would take ten times their grace."""
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    jobs = [user.ok("run", "--grace", "1", "sh", "-c", script).line for _ in range(4)]
    for job in jobs:
        _ready(user, job)
    done = user.ok("kill", *jobs)
    assert len(done.out.splitlines()) == 4
    records = [json.loads(user.ok("status", "-o", "json", job).stdout) for job in jobs]
    ends = [datetime.fromisoformat(record["ended_at"]) for record in records]
    assert (max(ends) - min(ends)).total_seconds() < 2


def test_signal_and_grace(user: Worker) -> None:
    """A job could not be stopped with the signal that it needs."""
    script = "trap 'echo interrupted; kill $!; exit 7' INT; echo ready; sleep 60 & wait"
    job = user.ok("run", "sh", "-c", script).line
    _ready(user, job)
    user.ok("kill", "--signal", "INT", "--grace", "30", "--reason", "too slow", job)
    assert user.ok("out", job).out == "ready\ninterrupted\n"
    shown = user.ok("status", job).out
    assert shown == f"killed (by {user.environ['WORKER_USER']}: too slow)\n"


def test_now(user: Worker) -> None:
    """A job could not be killed at once."""
    job = user.ok("run", "--grace", "1h", "sh", "-c", "trap '' TERM; echo ready; sleep 60").line
    _ready(user, job)
    assert user.ok("kill", "--now", job).out == f"{job} killed\n"


def test_signal_is_not_a_kill(user: Worker) -> None:
    """A reload by a signal would be recorded as a kill."""
    script = "trap 'echo saved; exit 0' USR1; echo ready; sleep 60 2>/dev/null & wait"
    job = user.ok("run", "sh", "-c", script).line
    _ready(user, job)
    assert user.ok("signal", job, "USR1").out == f"{job} signalled\n"
    assert user.ok("wait", job).out == f"{job} completed (exit code 0)\n"
    assert user.ok("out", job).out == "ready\nsaved\n"


@pytest.mark.parametrize("words", [("kill", "--signal", "FOO"), ("kill", "--grace", "-1")])
def test_wrong_wishes_stop_nothing(user: Worker, words: tuple[str, ...]) -> None:
    """A typing mistake would send another signal."""
    job = user.ok("run", "sleep", "60").line
    assert user.run(*words, job).code in (1, 2)
    assert user.ok("status", "-q", job).line in ("queued", "running")
    user.ok("kill", "--now", job)


def test_remove(user: Worker) -> None:
    """Records and output could not be deleted, or a running job would be deleted."""
    running = user.ok("run", "sleep", "60").line
    ended = user.ok("run", "true").line
    user.ok("wait", "-q", ended)
    done = user.run("remove", running, ended)
    assert (done.code, done.out) == (1, f"{ended} removed\n")
    assert running in done.stderr
    assert user.run("status", ended).code == 1
    user.ok("kill", "--now", running)


def test_a_job_that_is_named_twice_is_removed_once(user: Worker) -> None:
    """A second @last would be another job, whose output would be lost."""
    older, newest = (user.ok("run", "true").line for _ in range(2))
    user.ok("wait", "-q", older, newest)
    assert user.ok("remove", "@last", newest[:12], "@last", newest).out == f"{newest} removed\n"
    assert user.ok("list", "-q").line == older


def test_prune(user: Worker) -> None:
    """Old jobs would have to be deleted one by one, or running ones would be deleted too."""
    running = user.ok("run", "sleep", "60").line
    good, bad = user.ok("run", "true").line, user.ok("run", "--label", "a=b", "false").line
    user.ok("wait", "-q", good)
    user.run("wait", "-q", bad)
    assert user.run("prune").code == 2
    assert user.ok("prune", "--yes", "--older-than", "1h").stderr == (
        "worker: no finished jobs to delete\n"
    )
    assert user.ok("prune", "--yes", "--label", "a=b").out == f"{bad} removed\n"
    assert user.ok("prune", "--yes", "--status", "completed").out == f"{good} removed\n"
    assert user.ok("list", "-q").line == running
    user.ok("kill", "--now", running)


def _ready(user: Worker, job: str) -> None:
    """Wait until a job has written its first line."""
    follower = user.start("out", "-f", job)
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"ready\n"
    follower.kill()
    follower.communicate()
