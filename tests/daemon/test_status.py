"""GET /jobs/{job_id}/status: the state of a job, and waiting for its end."""

import threading
import time
from pathlib import Path

import pytest
import requests
from support import api as support
from support.api import Gate, User, refused
from support.waiting import wait_until
from worker_core import Engine

FIELDS = {
    "id",
    "status",
    "exit_code",
    "signal",
    "reason",
    "killed_by",
    "created_at",
    "started_at",
    "ended_at",
    "duration",
    "usage",
}


def test_the_whole_status(alice: User) -> None:
    """Programs that read a field would break."""
    job_id = alice.run("true")
    alice.ended(job_id)
    answer = alice.get(f"/jobs/{job_id}/status")
    assert answer.status_code == 200
    status = answer.json()
    assert set(status) >= FIELDS
    assert status["id"] == job_id
    assert status["status"] == "completed"
    assert status["exit_code"] == 0
    assert status["signal"] is status["reason"] is status["killed_by"] is None
    assert status["created_at"] <= status["started_at"] <= status["ended_at"]
    assert status["ended_at"].endswith("Z")
    assert len(status["ended_at"]) == len("2026-01-31T09:00:00.000Z")
    assert status["duration"] == status["usage"]["wall_seconds"]
    assert set(status["usage"]) >= {
        "wall_seconds",
        "user_seconds",
        "system_seconds",
        "max_rss_bytes",
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("exit 0", ("completed", 0, None)),
        ("exit 3", ("failed", 3, None)),
        ("kill -KILL $$", ("failed", None, 9)),
    ],
)
def test_outcomes(alice: User, line: str, told: tuple[object, ...]) -> None:
    """A failure would be taken for a success."""
    status = alice.ended(alice.shell(line))
    assert (status["status"], status["exit_code"], status["signal"]) == told


def test_a_running_job_is_told_at_once(alice: User) -> None:
    """A request without `wait` would hang for as long as the job runs."""
    job_id = alice.run("sleep", "1000")
    status = alice.get(f"/jobs/{job_id}/status").json()
    assert status["status"] == "running"
    assert status["ended_at"] is None


def test_a_wait_ends_with_the_job(alice: User, tmp_path: Path) -> None:
    """A program would have to poll, or learn of the end too late."""
    gate = Gate(tmp_path)
    job_id = alice.shell("read line < gate", cwd=gate.directory)
    threading.Thread(target=gate.open).start()
    begun = time.monotonic()
    assert alice.get(f"/jobs/{job_id}/status?wait=60").json()["status"] == "completed"
    assert time.monotonic() - begun < 30


def test_a_wait_ends_with_its_time(alice: User) -> None:
    """A short wait would last until the end of the job."""
    job_id = alice.run("sleep", "1000")
    begun = time.monotonic()
    assert alice.get(f"/jobs/{job_id}/status?wait=0.2").json()["status"] == "running"
    assert 0.2 <= time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "wait", ["61", "-1", "soon", "", "nan", "inf", "1_0", "1&wait=2", "%D9%A1"]
)
def test_no_time_to_wait(alice: User, wait: str) -> None:
    """After a typing error, the wait would have another length."""
    job_id = alice.run("true")
    answer = alice.get(f"/jobs/{job_id}/status?wait={wait}")
    assert refused(answer, 422, "invalid_request")["errors"][0]["field"] == "wait"


def test_unknown_parameters_are_refused(alice: User) -> None:
    """A misspelt parameter would be ignored without a message."""
    answer = alice.get(f"/jobs/{alice.run('true')}/status?wiat=10")
    document = refused(answer, 422, "invalid_request")
    assert document["errors"][0]["field"] == "wiat"
    assert "owner, wait" in document["detail"]


def test_a_broken_query_is_refused(alice: User) -> None:
    """The query would be misread."""
    answer = alice.get(f"/jobs/{alice.run('true')}/status?wait=%FF")
    refused(answer, 400, "malformed_request")


def test_waiting_is_bounded(engine: Engine, tmp_path: Path) -> None:
    """Enough waiting clients would freeze the server for everybody."""
    with support.serving(engine, tmp_path, max_long_requests=1) as small:
        alice, other = small.user("alice"), small.user("alice")
        job_id = alice.run("sleep", "1000")
        waiting = threading.Thread(target=alice.get, args=(f"/jobs/{job_id}/status?wait=60",))
        waiting.start()
        wait_until(lambda: "\nworkerd_followers 1\n" in other.get("/metrics").text)
        answer = other.get(f"/jobs/{job_id}/status?wait=1")
        refused(answer, 503, "too_many_followers")
        assert int(answer.headers["Retry-After"]) > 0
        assert other.get(f"/jobs/{job_id}/status").status_code == 200
        other.put(f"/jobs/{job_id}/kill")
        waiting.join(30)
        assert other.get(f"/jobs/{job_id}/status?wait=1").status_code == 200


def test_a_client_that_hangs_up_frees_its_place(engine: Engine, tmp_path: Path) -> None:
    """Clients that come and go would use up all places."""
    with support.serving(engine, tmp_path, max_long_requests=1) as small:
        alice, other = small.user("alice"), small.user("alice")
        job_id = alice.run("sleep", "1000")
        with pytest.raises(requests.ReadTimeout):
            alice.get(f"/jobs/{job_id}/status?wait=60", timeout=(10, 0.5))
        path = f"/jobs/{job_id}/status?wait=0.01"
        wait_until(lambda: other.get(path).status_code == 200)
