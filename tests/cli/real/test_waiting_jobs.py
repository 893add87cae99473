"""When jobs start: priority, hold and time, and what is said of jobs that wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.cli_run import Worker
from worker_cli import Client
from worker_cli.commands import queue_options


def test_a_held_job_is_released(user: Worker) -> None:
    """A person could hold a job, and never have it run."""
    job = user.ok("run", "--hold", "--priority", "-5", "true").line
    assert user.ok("why", job).out == "held until it is released\n"
    assert user.ok("hold", job).out == f"{job} held\n"
    assert user.ok("update", "--priority", "7", job).out == f"{job} updated\n"
    record = json.loads(user.ok("status", "-o", "json", job).stdout)
    assert (record["priority"], record["hold"]) == (7, True)
    assert user.ok("release", job).out == f"{job} released\n"
    assert user.ok("wait", job).out == f"{job} completed (exit code 0)\n"
    assert user.ok("why", job).out == "it does not wait: completed (exit code 0)\n"
    done = user.run("hold", job)
    assert done.code == 1
    assert "only a job that waits can be changed" in done.stderr


def test_a_time_is_echoed_and_changed(user: Worker) -> None:
    """A person who means tomorrow would not notice that the server means today."""
    done = user.run("run", "--at", "2096-10-02T07:06:40+00:00", "true")
    assert "2096-10-02 07:06:40 UTC" in done.stderr
    assert " or later" in done.stderr
    job = done.line
    assert user.ok("why", job).line.startswith("waiting until 2096-10-02T07:06:40.000Z (2096-")
    moved = user.run("update", "--at", "now", job)
    assert moved.out == f"{job} updated\n"
    assert "or later" not in moved.stderr
    past = user.run("run", "--at", "2020-01-01T00:00:00+00:00", "true")
    assert "2020-01-01 00:00:00 UTC is past, so it does not delay the job" in past.stderr
    assert user.ok("wait", job).out == f"{job} completed (exit code 0)\n"


def test_a_delay_is_counted_from_now(user: Worker) -> None:
    """`--delay 3h` would start at once."""
    job = user.ok("run", "--delay", "3h", "true").line
    record = json.loads(user.ok("status", "-o", "json", job).stdout)
    wait = datetime.fromisoformat(record["start_after"]) - datetime.now(UTC)
    assert timedelta(hours=2.9) < wait < timedelta(hours=3.1)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["run", "--at", "22:00", "--delay", "1h", "true"], "cannot be combined"),
        (["run", "--at", "25:00", "true"], "must be a time of day: hour must be in 0..23"),
        (["run", "--at", "tonight", "true"], "must be a time, such as 22:00"),
        (["run", "--priority", "101", "true"], "must be a whole number from -100 to 100"),
        (["run", "--dependency", "afterok", "true"], "must be KIND:ID[:ID…][,…] with a KIND of"),
        (["run", "--dependency", "before:0f3c", "true"], "must be KIND:ID[:ID…][,…]"),
        (["update", "0f3c"], "update needs --priority N, --at TIME or --delay TIME"),
    ],
)
def test_what_is_wrong_is_said(user: Worker, words: list[str], why: str) -> None:
    """A typing error would be sent, or start the job at once."""
    done = user.run(*words)
    assert done.code == 2
    assert why in done.stderr


def test_a_time_of_day_is_the_next_one() -> None:
    """`--at 22:00` at eleven at night would start at once."""
    now = datetime.now().astimezone()
    for text in ("00:00", "12:30", f"{now:%H:%M}", "23:59:59"):
        found = queue_options.AT.parse(text)
        assert now < found <= now + timedelta(days=1, hours=2)
        assert f"{found:%H:%M:%S}" == f"{text}:00"[:8]


def test_the_same_as_a_library(client: Client) -> None:
    """A program would have to call the command line."""
    later = datetime.now(UTC) + timedelta(days=1)
    job = client.run("true", priority=3, hold=True, start_after=later)
    assert [gate["gate"] for gate in job.status().waiting] == ["hold", "time"]
    job.update(start_after=datetime.now(UTC))
    job.hold()
    assert job.release().status in ("queued", "running", "completed")
    assert job.wait(20).succeeded


def test_a_job_waits_for_others(user: Worker) -> None:
    """The second step would start before the first has ended, or run although that failed."""
    first = user.ok("run", "--hold", "false").line
    good = user.ok("run", "--after", "@last", "true").line
    undo = user.ok("run", "--after-fail", first[:8], "--after-any", first, "true").line
    slurm = user.ok("run", "--dependency", f"afternotok:{first},afterany:{first}:{good}", "true")
    assert user.ok("why", good).out == f"waiting for job {first[:4]}… to complete\n"
    user.ok("release", first)
    done = user.run("wait", good)
    assert done.code == 1
    assert done.out == f"{good} skipped (job {first[:4]}… failed (exit code 1))\n"
    assert user.ok("wait", undo).out == f"{undo} completed (exit code 0)\n"
    assert user.ok("wait", slurm.line).out == f"{slurm.line} completed (exit code 0)\n"
    assert (
        "no job whose id begins with ffffffff"
        in user.run("run", "--after", "ffffffff", "true").stderr
    )


def test_a_lock_is_waited_for(user: Worker) -> None:
    """Two backups of one database would run at once."""
    first, second = (user.ok("run", "--lock", "db", "sleep", "60").line for _ in range(2))
    assert user.ok("why", second).out == "waiting for the lock 'db', which another job has\n"
    user.ok("kill", "--now", second, first)


def test_prune_leaves_the_jobs_that_others_wait_for(user: Worker) -> None:
    """A nightly prune would fail while any job waits for one that has ended."""
    parent = user.ok("run", "true").line
    user.ok("wait", parent)
    child = user.ok("run", "--after", parent, "--hold", "true").line
    pruned = user.ok("prune", "--yes")
    assert f"{parent} is kept, because another job waits for it" in pruned.stderr
    assert f"{parent} removed" not in pruned.out
    user.ok("kill", child)
    assert f"{parent} removed" in user.ok("prune", "--yes").out


def test_a_job_killed_before_its_start_is_named_so(user: Worker) -> None:
    """The child of a job that was killed while it ran would start: nobody could tell why not."""
    parent = user.ok("run", "--hold", "true").line
    child = user.ok("run", "--after-fail", parent, "true").line
    user.ok("kill", parent)
    assert "was killed before it started" in user.run("status", child).out
