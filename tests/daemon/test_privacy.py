"""Another user's job is answered exactly as an id that does not exist."""

import re
import uuid
from typing import Any

import pytest
import requests
from support.api import JSON, OCTETS, Api, User, refused

Call = tuple[str, str, dict[str, Any]]

EVERY_CALL: list[Call] = [
    ("GET", "", {}),
    ("HEAD", "", {}),
    ("DELETE", "", {}),
    ("GET", "?unknown=1", {}),
    ("OPTIONS", "", {}),
    ("POST", "", {}),
    ("PATCH", "", {}),
    ("BREW", "", {}),
    ("GET", "/status", {}),
    ("HEAD", "/status", {}),
    ("GET", "/status?wait=1", {}),
    ("GET", "/status?wait=x", {}),
    ("PUT", "/status", {}),
    ("GET", "/out", {}),
    ("HEAD", "/out", {}),
    ("GET", "/out", {"headers": OCTETS}),
    ("GET", "/out", {"headers": {**OCTETS, "Range": "bytes=0-1"}}),
    ("GET", "/out", {"headers": {**OCTETS, "If-None-Match": "*"}}),
    ("GET", "/out?follow=true", {}),
    ("GET", "/out?follow=true", {"headers": JSON}),
    ("GET", "/out?stream=stderr", {}),
    ("GET", "/out?offset=999999", {}),
    ("GET", "/out?tail=1&offset=1", {}),
    ("DELETE", "/out", {}),
    ("PUT", "/kill", {}),
    ("PUT", "/kill?wait=0", {}),
    ("PUT", "/kill?wait=x", {}),
    ("PUT", "/kill", {"json": {"now": True}}),
    ("PUT", "/kill", {"json": {"signal": "NOPE"}}),
    ("PUT", "/kill", {"data": b"{", "headers": JSON}),
    ("PUT", "/kill", {"data": b"x"}),
    ("GET", "/kill", {}),
    ("PUT", "/signal", {"json": {"signal": "TERM"}}),
    ("PUT", "/signal", {"json": {}}),
    ("PUT", "/signal", {}),
    ("GET", "/nothing", {}),
]


@pytest.fixture(scope="module")
def theirs(api: Api) -> dict[str, str]:
    """Jobs of bob: one that runs, one that has ended, one with two streams."""
    bob = api.user("bob")
    jobs = {
        "running": bob.run("sleep", "1000"),
        "finished": bob.run("echo", "secret"),
        "separate": bob.shell("echo secret >&2", separate_stderr=True),
    }
    bob.ended(jobs["finished"])
    bob.ended(jobs["separate"])
    return jobs


def seen(answer: requests.Response, job_id: str) -> tuple[int, dict[str, str], str]:
    """Return everything that a client sees, but for the id that it sent and the request's."""
    changing = ("Date", "X-Request-Id")
    headers = {k: v for k, v in answer.headers.items() if k not in changing}
    text = answer.text.replace(job_id, "ID")
    return answer.status_code, headers, re.sub(r'"request_id": "[^"]*"', "", text)


@pytest.mark.parametrize(("method", "tail", "extra"), EVERY_CALL)
def test_no_call_tells_them_apart(
    alice: User, theirs: dict[str, str], method: str, tail: str, extra: dict[str, Any]
) -> None:
    """A user could find out that somebody's job exists, and how it is."""
    unknown = str(uuid.uuid4())
    malformed = unknown.replace("-", "_")  # of the same length, so that all headers are the same
    upper = theirs["running"].upper()
    answers = {
        job_id: seen(alice.request(method, f"/jobs/{job_id}{tail}", **extra), job_id)
        for job_id in (unknown, malformed, upper, *theirs.values())
    }
    expected = answers[unknown]
    assert expected[0] in (200, 404, 405)
    assert {job_id for job_id, each in answers.items() if each != expected} == set()


def test_nothing_happened_to_them(api: Api, theirs: dict[str, str]) -> None:
    """The answer would hide that the request was carried out."""
    bob = api.user("bob")
    for name, status in (("running", "running"), ("finished", "completed")):
        assert bob.get(f"/jobs/{theirs[name]}/status").json()["status"] == status
    assert bob.out(theirs["finished"]) == b"secret\n"


def test_nobody_lists_the_jobs_of_others(api: Api, alice: User, theirs: dict[str, str]) -> None:
    """A list would show what others run."""
    mine = alice.run("true")
    for query in ("", "?owner=alice", f"?id_prefix={mine[:8]}"):
        jobs = alice.get(f"/jobs{query}").json()["jobs"]
        assert {job["owner"] for job in jobs} == {"alice"}
    for job_id in theirs.values():
        assert alice.get(f"/jobs?id_prefix={job_id}").json()["jobs"] == []


@pytest.mark.parametrize("owner", ["bob", "nobody", "*", "root"])
@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs/ID", "/jobs/ID/status", "/jobs/ID/out", "/events"]
)
def test_only_administrators_name_others(
    alice: User, theirs: dict[str, str], path: str, owner: str
) -> None:
    """Anybody could ask for everybody's jobs, or learn who has an account."""
    place = path.replace("ID", theirs["running"])
    document = refused(alice.get(f"{place}?owner={owner}"), 422, "invalid_request")
    assert document["errors"] == [
        {
            "field": "owner",
            "message": "only an administrator may name another user",
        }
    ]


def test_an_administrator_sees_and_ends_all(api: Api, theirs: dict[str, str]) -> None:
    """A runaway job of somebody who is away could be ended by nobody."""
    root, bob = api.user("root"), api.user("bob")
    job_id = bob.run("sleep", "1000")
    for owner in ("bob", "*"):
        ids = [job["id"] for job in root.get(f"/jobs?owner={owner}").json()["jobs"]]
        assert {job_id, *theirs.values()} <= set(ids)
        assert root.get(f"/jobs/{job_id}/status?owner={owner}").json()["status"] == "running"
    refused(root.put(f"/jobs/{job_id}/kill?owner=alice"), 404, "job_not_found")
    assert root.put(f"/jobs/{job_id}/kill?owner=bob").status_code == 200
    assert bob.get(f"/jobs/{job_id}/status").json()["killed_by"] == "root"
    assert root.get(f"/jobs/{theirs['finished']}/out?owner=*").json()["output"] == "secret\n"


def test_an_administrator_is_a_user_by_default(api: Api, theirs: dict[str, str]) -> None:
    """A slip of an administrator would end the job of somebody else."""
    root = api.user("root")
    assert root.get("/jobs").json()["jobs"] == []
    refused(root.put(f"/jobs/{theirs['running']}/kill"), 404, "job_not_found")


def test_the_key_of_another_user_is_free(alice: User, bob: User) -> None:
    """A user could find out which keys others use, or get their jobs."""
    key = {"Idempotency-Key": "the same"}
    first = bob.post("/jobs/run", json={"command": "true"}, headers=key)
    second = alice.post("/jobs/run", json={"command": "false"}, headers=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
