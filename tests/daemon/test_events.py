"""GET /events: server-sent events of a user's jobs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from support import api as support
from support.api import Api, Gate, User, refused
from support.waiting import wait_until


class Listening:
    """An open stream of events."""

    def __init__(self, user: User, query: str = "", **headers: str) -> None:
        self.answer = user.get(f"/events{query}", headers=headers, stream=True)
        assert self.answer.status_code == 200, self.answer.text
        self._lines = self.answer.iter_lines(chunk_size=1, decode_unicode=True)
        assert next(self._lines).startswith("retry:")
        assert next(self._lines) == ""

    def __enter__(self) -> "Listening":
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield each event as its id, its name, and what its data says."""
        fields: dict[str, Any] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif fields:
                yield {**fields, "data": json.loads(fields["data"])}
                fields = {}

    def until_the_end_of(self, job_id: str) -> list[dict[str, Any]]:
        """Return all events up to the end of a job."""
        seen = []
        for event in self:
            seen.append(event)
            if event["event"] == "end" and event["data"]["id"] == job_id:
                return seen
        raise AssertionError(f"the stream ended: {seen}")


def test_a_job_is_told_from_its_start_to_its_end(own: Api, tmp_path: Path) -> None:
    """A program that shows jobs would have to poll."""
    alice, other = own.user("alice"), own.user("alice")
    gate = Gate(tmp_path)
    with Listening(alice) as events:
        assert events.answer.headers["Content-Type"] == "text/event-stream"
        job_id = other.shell("read line < gate; exit 3", cwd=gate.directory)
        first = next(iter(events))
        assert (first["event"], first["data"]["id"]) == ("status", job_id)
        gate.open()
        last = events.until_the_end_of(job_id)[-1]
    assert last["data"] == other.get(f"/jobs/{job_id}/status").json()
    assert last["data"]["exit_code"] == 3
    assert int(last["id"]) > int(first["id"])


def test_a_job_that_waits_says_what_for(own: Api) -> None:
    """A page of jobs would show "queued" and have to ask for each why."""
    alice = own.user("alice")
    with Listening(alice) as events:
        job_id = alice.run("true", hold=True)
        data = next(iter(events))["data"]
    assert data["reason"] == "held until it is released"
    assert data == alice.get(f"/jobs/{job_id}/status").json()


def test_all_output_is_there_at_the_end(own: Api) -> None:
    """A user who reads the output at the end event would miss its last bytes."""
    alice, other = own.user("alice"), own.user("alice")
    with Listening(alice) as events:
        job_id = other.shell("seq 1 10000; printf end")
        events.until_the_end_of(job_id)
        assert other.out(job_id).endswith(b"10000\nend")


def test_nothing_is_missed_after_a_lost_connection(own: Api) -> None:
    """Events during the interruption would be lost."""
    alice, other = own.user("alice"), own.user("alice")
    with Listening(alice) as events:
        first = other.run("true")
        seen = events.until_the_end_of(first)[-1]["id"]
    second = other.run("true")
    other.ended(second)
    with Listening(alice, **{"Last-Event-ID": seen}) as events:
        ids = {event["data"]["id"] for event in events.until_the_end_of(second)}
    assert ids == {second}


def test_others_are_not_told(own: Api) -> None:
    """Anybody could watch what others run."""
    alice, other, bob = own.user("alice"), own.user("alice"), own.user("bob")
    with Listening(alice, **{"Last-Event-ID": "0"}) as events:
        bobs = bob.run("true")
        bob.ended(bobs)
        mine = other.run("true")
        ids = {event["data"]["id"] for event in events.until_the_end_of(mine)}
    assert ids == {mine}


def test_an_administrator_watches_a_user(own: Api) -> None:
    """Nobody could look after the jobs of an absent user."""
    root, bob = own.user("root"), own.user("bob")
    job_id = bob.run("true")
    with Listening(root, "?owner=bob", **{"Last-Event-ID": "0"}) as events:
        assert events.until_the_end_of(job_id)
    refused(root.get("/events?owner=*"), 422, "invalid_request")


def test_events_without_a_name_reach_onmessage(own: Api) -> None:
    """In a browser, `onmessage` of an EventSource would receive nothing."""
    alice, other = own.user("alice"), own.user("alice")
    with Listening(alice, "?unnamed=true") as events:
        job_id = other.run("true")
        for event in events:
            assert event.keys() == {"id", "data"}
            if event["data"]["ended_at"]:
                break
        assert event["data"] == other.get(f"/jobs/{job_id}/status").json()


def test_event_names_are_documented(alice: User) -> None:
    """A program made from the document would not know what to listen for."""
    document = alice.get("/openapi.json").json()
    described = document["paths"]["/events"]["get"]
    assert "`end`" in described["description"]
    assert "onmessage" in described["description"]
    content = described["responses"]["200"]["content"]["text/event-stream"]["schema"]
    assert content["contentSchema"] == {"$ref": "#/components/schemas/Event"}
    event = document["components"]["schemas"]["Event"]["properties"]
    assert event["event"]["enum"] == ["status", "end"]
    assert event["data"]["$ref"] == "#/components/schemas/Status"


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 19, "", "1e3"])
def test_what_is_no_last_event(alice: User, given: str) -> None:
    """A program that continues after a wrong event would miss others."""
    refused(alice.get("/events", headers={"Last-Event-ID": given}), 400, "malformed_request")


def test_listeners_are_bounded_and_end_with_the_server(own: Api, tmp_path: Path) -> None:
    """Enough event streams would freeze the server, or keep it from ending."""
    directory = tmp_path / "small"
    directory.mkdir()
    with support.serving(own.engine, directory, max_long_requests=1) as small:
        alice, other = small.user("alice"), small.user("alice")
        with Listening(alice):
            refused(other.get("/events"), 503, "too_many_followers")
        wait_until(lambda: "\nworkerd_followers 0\n" in other.get("/metrics").text)
        with Listening(alice) as events:
            small.edge.server.drain()
            assert [*events] == []


def test_the_head_alone_does_not_listen(alice: User) -> None:
    """A HEAD request would take a place for ever."""
    answer: requests.Response = alice.head("/events")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
