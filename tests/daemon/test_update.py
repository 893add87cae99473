"""PATCH /jobs/{id}: what a waiting job waits for; and what its status says of that."""

import pytest
from support.api import Api, User, refused


def test_a_held_job_is_released(alice: User) -> None:
    """A held job could only be killed."""
    job_id = alice.run("true", hold=True, priority=3, start_after="2026-01-01T00:00:00Z")
    record = alice.get(f"/jobs/{job_id}").json()
    assert (record["priority"], record["hold"]) == (3, True)
    assert record["start_after"] == "2026-01-01T00:00:00.000Z"
    assert record["waiting"] == [{"gate": "hold", "text": "held until it is released"}]
    answer = alice.patch(f"/jobs/{job_id}", json={"priority": -1, "hold": None})
    assert answer.status_code == 200
    assert (answer.json()["priority"], answer.json()["hold"]) == (-1, True)
    assert alice.patch(f"/jobs/{job_id}", json={"hold": False}).json()["hold"] is False
    assert alice.ended(job_id)["status"] == "completed"
    assert alice.get(f"/jobs/{job_id}/status").json()["waiting"] == []


def test_a_time_is_changed(alice: User) -> None:
    """A job that was put off for a year could not be had sooner."""
    job_id = alice.run("true", start_after="2096-10-02T09:06:40+02:00")
    (gate,) = alice.get(f"/jobs/{job_id}/status").json()["waiting"]
    assert gate == {
        "gate": "time",
        "text": "waiting until 2096-10-02T07:06:40.000Z",
        "until": "2096-10-02T07:06:40.000Z",
    }
    assert alice.get(f"/jobs/{job_id}/status").json()["reason"] == gate["text"]
    assert alice.patch(f"/jobs/{job_id}", json={}).json()["status"] == "queued"
    changed = alice.patch(f"/jobs/{job_id}", json={"start_after": "2020-01-01T00:00:00Z"})
    assert changed.status_code == 200
    assert alice.ended(job_id)["status"] == "completed"


def test_only_a_waiting_job_is_changed(alice: User) -> None:
    """A user would believe that a job is held which has run."""
    job_id = alice.run("true")
    alice.ended(job_id)
    problem = refused(alice.patch(f"/jobs/{job_id}", json={"hold": True}), 409, "job_not_waiting")
    assert problem["detail"].endswith("only a job that waits can be changed")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"priority": 101}, "priority"),
        ({"priority": True}, "priority"),
        ({"hold": "yes"}, "hold"),
        ({"start_after": "22:00"}, "start_after"),
        ({"start_after": 5}, "start_after"),
        ({"state": "running"}, "state"),
    ],
)
def test_what_is_wrong_is_named(alice: User, body: dict[str, object], field: str) -> None:
    """A typing error would be accepted, and the job wait where nobody expects it."""
    job_id = alice.run("true", hold=True)
    problem = refused(alice.patch(f"/jobs/{job_id}", json=body), 422, "invalid_request")
    assert [each["field"] for each in problem["errors"]] == [field]


def test_nobody_else_changes_a_job(api: Api, alice: User) -> None:
    """A user could hold the jobs of others."""
    job_id = alice.run("true", hold=True)
    with api.user("bob") as bob:
        refused(bob.patch(f"/jobs/{job_id}", json={"hold": False}), 404, "job_not_found")
    assert alice.get(f"/jobs/{job_id}").json()["hold"] is True
