"""Jobs that wait for others, over HTTP."""

import pytest
from support.api import Api, User, refused


def test_a_job_waits_for_another(alice: User) -> None:
    """The second step of a job would start before the first has ended."""
    first = alice.run("true", hold=True)
    second = alice.run("true", after=[{"job": first}])
    unwanted = alice.run("true", after=[{"job": first, "when": "failure"}])
    (gate,) = alice.get(f"/jobs/{second}/status").json()["waiting"]
    assert gate["gate"] == "dependency"
    assert gate["text"] == f"waiting for job {first[:4]}… to complete"
    assert gate["jobs"] == [{"job": first, "when": "success"}]
    assert alice.get(f"/jobs/{second}").json()["spec"]["after"] == gate["jobs"]
    alice.patch(f"/jobs/{first}", json={"hold": False})
    assert alice.ended(second)["status"] == "completed"
    skipped = alice.ended(unwanted)
    assert skipped["status"] == "skipped"
    assert skipped["reason"] == f"skipped: job {first[:4]}… completed"
    assert [job["id"] for job in alice.get("/jobs?status=skipped").json()["jobs"]] == [unwanted]


def test_a_needed_job_is_not_removed(alice: User) -> None:
    """A job would never start, because the one that it waits for was removed."""
    first = alice.run("true")
    alice.ended(first)
    second = alice.run("true", hold=True, after=[{"job": first}])
    problem = refused(alice.delete(f"/jobs/{first}"), 409, "job_needed")
    assert second in problem["detail"]
    alice.put(f"/jobs/{second}/kill")
    assert alice.delete(f"/jobs/{first}").status_code == 204


@pytest.mark.parametrize(
    ("after", "field"),
    [
        ("0f3c", "after"),
        ([{"job": "0f3c"}], "after[0].job"),
        ([{"job": 7}], "after"),
        ([{"job": "0f3c", "when": "later"}], "after"),
        ([{"job": "0f3c"}] * 3 + [{"job": str(n)} for n in range(1001)], "after"),
    ],
)
def test_what_is_wrong_is_named(alice: User, after: object, field: str) -> None:
    """A typing error would start a job at once, or never."""
    answer = alice.post("/jobs/run", json={"command": "true", "after": after})
    problem = refused(answer, 422, "invalid_job")
    assert [each["field"] for each in problem["errors"]] == [field]


@pytest.mark.parametrize("lock", ["", 7, "x" * 256, "a\n"])
def test_a_lock_has_a_name(alice: User, lock: object) -> None:
    """A typing error would lock nothing."""
    answer = alice.post("/jobs/run", json={"command": "true", "lock": lock})
    problem = refused(answer, 422, "invalid_job")
    assert [each["field"] for each in problem["errors"]] == ["lock"]


def test_the_job_of_another_user_is_unknown(api: Api, alice: User) -> None:
    """A user would learn which jobs others have, and when they end."""
    foreign = alice.run("true")
    with api.user("bob") as bob:
        told = [
            refused(
                bob.post("/jobs/run", json={"command": "true", "after": [{"job": job}]}),
                422,
                "invalid_job",
            )["detail"].replace(job, "ID")
            for job in (foreign, "00000000-0000-4000-8000-000000000000")
        ]
    assert told[0] == told[1]
