"""The access log and the audit log: what is in them, and what must never be."""

import logging
from typing import Any

import pytest
from support.api import PASSWORD, Api, User
from support.waiting import wait_until


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged at the level that a daemon has."""
    caplog.set_level(logging.INFO)
    return caplog


def lines(log: pytest.LogCaptureFixture, logger: str) -> list[dict[str, Any]]:
    """Return the records of a logger: the message and the fields of each."""
    names = ("request_id", "address", "user", "method", "path", "status", "seconds", "job")
    more = ("argv", "cwd", "owner", "reason", "signal")
    return [
        {"message": each.message}
        | {name: vars(each)[name] for name in (*names, *more) if name in vars(each)}
        for each in log.records
        if each.name == f"worker_daemon.{logger}"
    ]


def test_every_request_has_a_line(alice: User, log: pytest.LogCaptureFixture) -> None:
    """Nobody could find out later who did what when."""
    job_id = alice.run("true")
    answer = alice.get(f"/jobs/{job_id}/status?wait=5")
    created, asked = lines(log, "access")
    seconds = asked.pop("seconds")
    assert 0 < seconds < 30
    assert asked == {
        "message": "request",
        "request_id": answer.headers["X-Request-Id"],
        "address": "127.0.0.1",
        "user": "alice",
        "method": "GET",
        "path": f"/jobs/{job_id}/status",
        "status": 200,
        "job": job_id,
    }
    assert (created["path"], created["status"], created["job"]) == ("/jobs/run", 201, job_id)


def test_refusals_have_a_line(api: Api, alice: User, log: pytest.LogCaptureFixture) -> None:
    """Attacks and mistakes would leave no trace."""
    api.user("mallory", "guess").get("/jobs")
    alice.get("/nothing")
    told = [(each["status"], each["user"]) for each in lines(log, "access")]
    assert told == [(401, None), (404, "alice")]
    assert "mallory" not in log.text, "people type their password where the name belongs"


def test_a_followed_output_has_a_line_at_its_end(
    alice: User, log: pytest.LogCaptureFixture
) -> None:
    """How long somebody followed would not be known."""
    job_id = alice.run("echo", "hi")
    assert alice.get(f"/jobs/{job_id}/out?follow=true").content == b"hi\n"
    wait_until(lambda: len(lines(log, "access")) == 2)


def test_who_ran_and_ended_what(api: Api, log: pytest.LogCaptureFixture) -> None:
    """Nobody could be asked about a command that did harm."""
    alice, root = api.user("alice"), api.user("root")
    job_id = alice.run("sleep", "1000", cwd="/")
    alice.put(f"/jobs/{job_id}/signal", json={"signal": "CONT"})
    root.put(f"/jobs/{job_id}/kill?owner=alice", json={"reason": "cleaning up", "now": True})
    root.delete(f"/jobs/{job_id}?owner=alice")
    told = lines(log, "audit")
    assert [(each["message"], each["user"]) for each in told] == [
        ("run", "alice"),
        ("signal", "alice"),
        ("kill", "root"),
        ("remove", "root"),
    ]
    assert {each["job"] for each in told} == {job_id}
    assert {each["address"] for each in told} == {"127.0.0.1"}
    assert told[0]["argv"] == ["sleep", "1000"]
    assert told[2]["reason"] == "cleaning up"
    assert told[2]["owner"] == "alice"


def test_no_secret_is_logged(alice: User, log: pytest.LogCaptureFixture) -> None:
    """Anybody who reads the log would have the passwords of others."""
    job_id = alice.run("cat", env={"TOKEN": "hidden-1"}, stdin="hidden-2", labels={"a": "hidden-3"})
    alice.ended(job_id)
    alice.out(job_id)
    alice.get("/jobs?name=hidden-4")
    alice.post("/jobs/run", json={"command": "x", "env": {"A=": "hidden-5"}})
    assert log.records
    everything = log.text + repr([vars(each) for each in log.records])
    assert "hidden" not in everything
    assert PASSWORD not in everything
