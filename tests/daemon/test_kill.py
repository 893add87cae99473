"""PUT /jobs/{id}/kill and /signal, DELETE /jobs/{id}: ending jobs, and the truth about it."""

import dataclasses
import threading
import time

import pytest
from support.api import JSON, Api, User, refused
from support.waiting import wait_until
from worker_core import Engine, State

DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def ready(user: User, job_id: str) -> str:
    """Wait until the job has written something; return its id."""
    wait_until(lambda: user.out(job_id))
    return job_id


def test_a_running_job_is_killed(alice: User) -> None:
    """A runaway job could not be stopped."""
    job_id = ready(alice, alice.shell("echo; exec sleep 1000"))
    answer = alice.put(f"/jobs/{job_id}/kill")
    assert (answer.status_code, answer.json()) == (200, {"id": job_id, "status": "killed"})
    status = alice.get(f"/jobs/{job_id}/status").json()
    assert (status["status"], status["signal"], status["exit_code"]) == ("killed", 15, None)
    assert status["killed_by"] == "alice"


def test_why_is_recorded(alice: User) -> None:
    """Nobody would know later why a job was stopped."""
    job_id = alice.run("sleep", "1000")
    alice.put(f"/jobs/{job_id}/kill", json={"reason": "it was the wrong one"})
    assert "it was the wrong one" in alice.get(f"/jobs/{job_id}/status").json()["reason"]


def test_a_deaf_job_is_stopping_then_killed(alice: User) -> None:
    """A job that ignores the signal would be called killed while it runs, or never end."""
    job_id = ready(alice, alice.shell(DEAF, stop_grace=1))
    answer = alice.put(f"/jobs/{job_id}/kill?wait=0.1")
    assert (answer.status_code, answer.json()) == (202, {"id": job_id, "status": "stopping"})
    status = alice.ended(job_id)
    assert (status["status"], status["signal"]) == ("killed", 9)


@pytest.mark.parametrize("body", [{"now": True}, {"grace": 0}, {"signal": "KILL"}, {"signal": 9}])
def test_without_grace(alice: User, body: dict[str, object]) -> None:
    """A job that must go at once would be given time."""
    job_id = ready(alice, alice.shell(DEAF, stop_grace=1000))
    assert alice.put(f"/jobs/{job_id}/kill", json=body).status_code == 200
    assert alice.get(f"/jobs/{job_id}/status").json()["signal"] == 9


def test_with_another_signal(alice: User) -> None:
    """A job that cleans up on another signal would be killed without doing so."""
    job_id = ready(
        alice, alice.shell("trap 'echo bye; exit 4' USR1; echo ready; while :; do sleep 0.05; done")
    )
    assert alice.put(f"/jobs/{job_id}/kill", json={"signal": "SIGUSR1"}).status_code == 200
    assert alice.out(job_id).endswith(b"bye\n")


def test_a_finished_job_keeps_its_outcome(alice: User) -> None:
    """A success would be turned into a kill, or the answer would not say what happened."""
    for command, words in (("true", "completed with exit code 0"), ("false", "exit code 1")):
        job_id = alice.run(command)
        before = alice.ended(job_id)
        detail = refused(alice.put(f"/jobs/{job_id}/kill"), 409, "job_not_running")["detail"]
        assert detail.startswith(f"job {job_id} has already")
        assert words in detail
        assert alice.get(f"/jobs/{job_id}/status").json() == before


def test_a_killed_job_cannot_be_killed_again(alice: User) -> None:
    """The second kill would hang, or claim to have done something."""
    job_id = alice.run("sleep", "1000")
    alice.put(f"/jobs/{job_id}/kill")
    assert "killed" in refused(alice.put(f"/jobs/{job_id}/kill"), 409, "job_not_running")["detail"]


def test_a_job_that_ends_by_itself_first(
    alice: User, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that ended well while it was asked to stop would be called killed."""
    job_id = alice.run("true")
    running = dataclasses.replace(engine.get(job_id), state=State.STOPPING)
    alice.ended(job_id)
    # The signal never reached it.
    monkeypatch.setattr(engine, "request_kill", lambda *args, **kwargs: running)
    answer = alice.put(f"/jobs/{job_id}/kill")
    assert "completed with exit code 0" in refused(answer, 409, "job_not_running")["detail"]


def test_many_kills_at_once_agree(alice: User) -> None:
    """Answers to the same question would contradict each other, or one would hang."""
    job_id = ready(alice, alice.shell(DEAF, stop_grace=0.2))
    codes: list[int] = []
    path = f"/jobs/{job_id}/kill"
    threads = [
        threading.Thread(target=lambda: codes.append(alice.put(path).status_code)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(codes) == 5
    assert set(codes) <= {200, 409}
    assert 200 in codes


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"signal": "NOPE"}, "signal"),
        ({"signal": 0}, "signal"),
        ({"signal": 9.5}, "signal"),
        ({"signal": []}, "signal"),
        ({"signal": True}, "signal"),
        ({"grace": -1}, "grace"),
        ({"grace": "5"}, "grace"),
        ({"now": 1}, "now"),
        ({"now": "yes"}, "now"),
        ({"reason": ""}, "reason"),
        ({"reason": "r" * 1001}, "reason"),
        ({"reason": 5}, "reason"),
        ({"force": True}, "force"),
        ([], ""),
        ("now", ""),
    ],
)
def test_what_is_no_way_to_kill(alice: User, body: object, field: str) -> None:
    """A mistake would end the job in another way than was meant."""
    job_id = alice.run("sleep", "1000")
    document = refused(alice.put(f"/jobs/{job_id}/kill", json=body), 422, "invalid_request")
    assert document["errors"][0]["field"] == field
    assert alice.get(f"/jobs/{job_id}/status").json()["status"] == "running"
    alice.put(f"/jobs/{job_id}/kill", json={"now": True})


def test_half_a_character_is_no_reason(alice: User) -> None:
    """The record could not be written, or not be read again."""
    job_id = alice.run("sleep", "1000")
    answer = alice.put(f"/jobs/{job_id}/kill", data=r'{"reason": "\ud800"}', headers=JSON)
    assert refused(answer, 422, "invalid_request")["errors"][0]["field"] == "reason"


def test_an_empty_body_is_none(alice: User) -> None:
    """`curl -X PUT -d ''` would be refused for the media type of nothing."""
    job_id = alice.run("sleep", "1000")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert alice.put(f"/jobs/{job_id}/kill", data=b"", headers=headers).status_code == 200


def test_null_is_the_default(alice: User) -> None:
    """Clients that write all fields would be refused."""
    job_id = alice.run("sleep", "1000")
    body = {"signal": None, "grace": None, "now": None, "reason": None}
    assert alice.put(f"/jobs/{job_id}/kill", json=body).status_code == 200


def test_a_signal_does_not_end_the_job(alice: User) -> None:
    """A job that gets SIGHUP to reload its settings would be recorded as killed."""
    job_id = ready(
        alice, alice.shell("trap 'echo hup; exit 0' HUP; echo ready; while :; do sleep 0.05; done")
    )
    answer = alice.put(f"/jobs/{job_id}/signal", json={"signal": "HUP"})
    assert (answer.status_code, answer.json()["id"]) == (200, job_id)
    assert alice.ended(job_id)["status"] == "completed"
    assert alice.out(job_id).endswith(b"hup\n")


def test_a_signal_that_ends_the_job(alice: User) -> None:
    """Ending by a signal that was sent so would be called killed."""
    job_id = ready(alice, alice.shell("echo ready; sleep 1000"))
    alice.put(f"/jobs/{job_id}/signal", json={"signal": "KILL"})
    status = alice.ended(job_id)
    assert (status["status"], status["signal"]) == ("failed", 9)


@pytest.mark.parametrize(
    "body", [{}, {"signal": None}, {"signal": "NOPE"}, {"signal": "INT", "x": 1}]
)
def test_what_is_no_signal(alice: User, body: dict[str, object]) -> None:
    """Another signal would be sent than was meant."""
    job_id = alice.run("sleep", "1000")
    refused(alice.put(f"/jobs/{job_id}/signal", json=body), 422, "invalid_request")


def test_a_finished_job_gets_no_signal(alice: User) -> None:
    """The signal could reach another process that has the number now."""
    job_id = alice.run("true")
    alice.ended(job_id)
    answer = alice.put(f"/jobs/{job_id}/signal", json={"signal": "TERM"})
    refused(answer, 409, "job_not_running")


def test_a_finished_job_is_removed(alice: User) -> None:
    """Records and outputs could not be cleaned up."""
    job_id = alice.run("echo", "hi")
    alice.ended(job_id)
    answer = alice.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Type" not in answer.headers
    for path in ("", "/status", "/out"):
        refused(alice.get(f"/jobs/{job_id}{path}"), 404, "job_not_found")
    refused(alice.delete(f"/jobs/{job_id}"), 404, "job_not_found")


def test_a_running_job_is_not_removed(alice: User) -> None:
    """A job would keep running without a record."""
    job_id = alice.run("sleep", "1000")
    refused(alice.delete(f"/jobs/{job_id}"), 409, "job_not_finished")
    assert alice.put(f"/jobs/{job_id}/kill").status_code == 200


def test_a_kill_without_waiting_answers_at_once(alice: User) -> None:
    """A program that stops many jobs would wait for each."""
    job_id = ready(alice, alice.shell(DEAF, stop_grace=1000))
    begun = time.monotonic()
    assert alice.put(f"/jobs/{job_id}/kill?wait=0").status_code == 202
    assert time.monotonic() - begun < 5
    alice.put(f"/jobs/{job_id}/kill", json={"now": True})


def test_an_end_that_cannot_be_recorded_is_said(own: Api) -> None:
    """A process that has ended would be shown as running, and nobody would know why."""
    alice = own.user("alice")
    job_id = ready(alice, alice.shell("echo ready; sleep 1000"))
    store = own.engine._store
    store.write(lambda _: None).result()
    store._database._writer.execute("PRAGMA query_only = 1")
    try:
        why = (
            "its process has ended, but that cannot be recorded yet: "
            "attempt to write a readonly database"
        )
        alice.put(f"/jobs/{job_id}/kill?wait=0")
        wait_until(lambda: alice.get(f"/jobs/{job_id}/status").json()["reason"] == why)
        status = alice.get(f"/jobs/{job_id}/status?wait=0.1").json()
        assert (status["status"], status["exit_code"]) == ("stopping", None)
        answer = alice.put(f"/jobs/{job_id}/kill?wait=0")
        expected = {"id": job_id, "status": "stopping", "reason": why}
        assert (answer.status_code, answer.json()) == (202, expected)
    finally:
        store._database._writer.execute("PRAGMA query_only = 0")
    assert alice.ended(job_id)["status"] == "killed"
