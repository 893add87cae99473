"""GET /jobs: a user's jobs, newest first, filtered, a page at a time."""

import datetime
from typing import Any
from urllib.parse import quote

import pytest
import worker_core
from support.api import Api, User, refused


def listed(user: User, query: str = "") -> list[str]:
    """Return the ids on the first page."""
    return [job["id"] for job in page(user, query)["jobs"]]


def page(user: User, query: str) -> dict[str, Any]:
    """Return a page."""
    answer = user.get(f"/jobs{query}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert set(told) == {"jobs", "next_cursor"}
    return told


def test_no_jobs(own: Api) -> None:
    """A new user's list would be an error."""
    assert page(own.user("alice"), "") == {"jobs": [], "next_cursor": None}


def test_newest_first_with_the_whole_record(own: Api) -> None:
    """People would look for the job that they just started among old ones."""
    alice = own.user("alice")
    ids = [alice.run("echo", str(n)) for n in range(3)]
    for job_id in ids:
        alice.ended(job_id)
    assert listed(alice) == ids[::-1]
    for record in page(alice, "")["jobs"]:
        assert record == alice.get(f"/jobs/{record['id']}").json()
        assert record["owner"] == "alice"
        assert record["spec"]["command"] == "echo"


def test_pages_join_to_the_whole(own: Api) -> None:
    """Jobs between two pages would be missing, or be there twice."""
    alice = own.user("alice")
    ids = [alice.run("true") for _ in range(7)]
    found: list[str] = []
    query = "?limit=3"
    for size in (3, 3, 1):
        told = page(alice, query)
        assert len(told["jobs"]) == size
        found += [job["id"] for job in told["jobs"]]
        query = f"?limit=3&cursor={quote(str(told['next_cursor']))}"
        alice.run("true")  # what is new belongs to no later page
    assert told["next_cursor"] is None
    assert found == ids[::-1]


def test_filters(own: Api) -> None:
    """Nobody could find a job among thousands."""
    alice = own.user("alice")
    good = alice.run("true", name="build", labels={"team": "blue", "step": "1"})
    bad = alice.run("false", name="test", labels={"team": "blue", "step": "2", "note": "a=b,c"})
    long = alice.run("sleep", "1000", labels={"team": "red"})
    alice.ended(good)
    alice.ended(bad)
    expected = {
        "?status=running": [long],
        "?status=completed": [good],
        "?status=completed&status=failed": [bad, good],
        "?status=lost": [],
        "?label=team=blue": [bad, good],
        "?label=team=blue&label=step=2": [bad],
        "?label=team=": [],
        "?label=note=a%3Db,c": [bad],
        "?name=build": [good],
        "?name=buil": [],
        f"?id_prefix={good[:13]}": [good],
        f"?id_prefix={good}": [good],
        "?id_prefix=%25": [],
        "?id_prefix=_": [],
        "?status=completed&name=test": [],
        "?owner=alice": [long, bad, good],
        "?limit=1": [long],
    }
    assert {query: listed(alice, query) for query in expected} == expected
    alice.put(f"/jobs/{long}/kill")


def test_since(own: Api) -> None:
    """Programs that look for what is new would see everything again, or miss something."""
    alice = own.user("alice")
    first, second = alice.run("true"), alice.run("true")
    created = alice.get(f"/jobs/{second}").json()["created_at"]
    moment = datetime.datetime.fromisoformat(created)
    assert second in listed(alice, f"?since={created}")
    later = moment + datetime.timedelta(seconds=1)
    assert listed(alice, f"?since={quote(later.isoformat())}") == []
    elsewhere = moment.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    earlier = elsewhere - datetime.timedelta(hours=1)
    assert listed(alice, f"?since={quote(earlier.isoformat())}") == [second, first]


def test_how_long_ago(own: Api) -> None:
    """Each client would have to know the server's time, and `prune` remove what is new."""
    alice = own.user("alice")
    ended, runs = alice.run("true"), alice.run("sleep", "1000")
    alice.ended(ended)
    assert listed(alice, "?since=1h") == [runs, ended]
    assert listed(alice, "?since=1w2d3h4m5s6ms") == [runs, ended]
    assert listed(alice, "?since=0s") == []
    assert listed(alice, "?ended_before=0s") == [ended]
    assert listed(alice, "?ended_before=1.5h") == []
    assert listed(alice, "?ended_before=99999999999w&since=99999999999w") == []
    at = alice.get(f"/jobs/{ended}").json()["ended_at"]
    assert listed(alice, f"?ended_before={at.replace('Z', '999Z')}") == [ended]
    alice.put(f"/jobs/{runs}/kill")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=90", "since"),
        ("since=1h%20", "since"),
        ("since=-1h", "since"),
        ("ended_before=h", "ended_before"),
        ("status=sleeping", "status"),
        ("status=", "status"),
        ("status=running&status=Running", "status"),
        ("label=team", "label"),
        ("label==blue", "label"),
        ("label=team=blue&label=team=red", "label"),
        ("name=", "name"),
        (f"name={'n' * 256}", "name"),
        ("id_prefix=", "id_prefix"),
        ("since=yesterday", "since"),
        ("since=2026-01-31", "since"),
        ("since=2026-01-31T09:00:00", "since"),
        ("since=2026-01-31T09:00:00+00:00", "since"),
        ("since=0001-01-01T00:00:00%2B23:00&limit=0", "limit"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=all", "limit"),
        ("limit=10&limit=20", "limit"),
        ("cursor=", "cursor"),
        ("page=2", "page"),
    ],
)
def test_what_is_no_filter(alice: User, query: str, field: str) -> None:
    """A mistake would be answered with other jobs than were meant."""
    document = refused(alice.get(f"/jobs?{query}"), 422, "invalid_request")
    assert [each["field"] for each in document["errors"]] == [field]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "%00", "9" * 200, "-1", "%F0%9F%98%80"])
def test_what_is_no_cursor(alice: User, cursor: str) -> None:
    """A broken program would read some page, and never notice."""
    refused(alice.get(f"/jobs?cursor={cursor}"), 422, "invalid_request")


@pytest.mark.parametrize("text", ["\udcff", "µ", "漢\udcfe", "50%", "a b&c=d#"])
def test_any_name_and_label_can_be_asked_for(own: Api, text: str) -> None:
    """A job could be stored under a name by which it is never found."""
    alice = own.user("alice")
    other = alice.run("true", name="?", labels={"k": "?"})
    job_id = alice.run("true", name=text, labels={text.replace("=", ""): text})
    quoted = quote(text.encode("utf-8", "surrogateescape"), safe="")
    key = quote(text.replace("=", "").encode("utf-8", "surrogateescape"), safe="")
    for query in (f"name={quoted}", f"label={key}={quoted}", f"label={key}%3D{quoted}"):
        answer = alice.get(f"/jobs?{query}")
        assert [job["id"] for job in answer.json()["jobs"]] == [job_id], query
    assert [job["id"] for job in alice.get("/jobs?name=%3F").json()["jobs"]] == [other]


@pytest.mark.parametrize("query", ["%FF=x", "cursor=%FF", "owner=%FF", "since=%C3", "n%FFme=x"])
def test_bytes_where_none_can_be_are_refused(alice: User, query: str) -> None:
    """A broken query would be read as something else than was meant."""
    refused(alice.get(f"/jobs?{query}"), 400, "malformed_request")


def test_jobs_whose_owner_is_not_known_are_an_administrators(own: Api) -> None:
    """After the loss of the database nobody would find a job of release 0.1.0, or anybody would."""
    job_id = own.engine.submit(worker_core.JobSpec("true"), worker_core.UNKNOWN_OWNER).id
    alice, root = own.user("alice"), own.user("root")
    assert page(alice, "")["jobs"] == []
    refused(alice.get("/jobs?owner=:unknown"), 422, "invalid_request")
    refused(alice.get(f"/jobs/{job_id}"), 404, "job_not_found")
    assert [job["id"] for job in page(root, "?owner=:unknown")["jobs"]] == [job_id]
    assert root.get(f"/jobs/{job_id}?owner=:unknown").status_code == 200
