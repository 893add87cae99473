"""GET /jobs/{job_id}/out?follow=true: output as it is written, until the job has ended."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support import api as support
from support.api import OCTETS, Api, Gate, User, refused
from support.waiting import wait_until
from worker_core import Engine

COUNT = "for i in 1 2 3 4 5 6 7 8 9; do echo $i; done"


def following(user: User, job_id: str, query: str = "") -> requests.Response:
    """Return an answer of which only the head was read."""
    answer = user.get(f"/jobs/{job_id}/out?follow=true{query}", headers=OCTETS, stream=True)
    assert answer.status_code == 200
    return answer


def lines(answer: requests.Response) -> Iterator[bytes]:
    """Yield each line when it is there."""
    return answer.iter_lines(chunk_size=1)


def test_lines_come_when_they_are_written(alice: User, tmp_path: Path) -> None:
    """A user who follows a job would see its output only at its end."""
    gate = Gate(tmp_path)
    job_id = alice.shell("echo one; read line < gate; echo two", cwd=gate.directory)
    with following(alice, job_id) as answer:
        came = lines(answer)
        assert next(came) == b"one"
        gate.open()
        assert [*came] == [b"two"]


def test_the_head_comes_before_the_first_byte(alice: User) -> None:
    """A client that follows a silent job could not tell that it is connected, and would give up."""
    job_id = alice.run("sleep", "1000")
    with following(alice, job_id) as answer:
        assert answer.headers["X-Job-Status"] == "running"
        assert answer.headers["Content-Type"] == "application/octet-stream"
        alice.put(f"/jobs/{job_id}/kill", json={"now": True})
        assert answer.content == b""


def test_a_finished_job_is_sent_whole(alice: User, tmp_path: Path) -> None:
    """Following would hang on a job that has ended, or lose its end."""
    data = bytes(range(256)) * 4000
    (tmp_path / "data").write_bytes(data)
    job_id = alice.run("cat", str(tmp_path / "data"))
    alice.ended(job_id)
    with following(alice, job_id) as answer:
        assert answer.content == data


@pytest.mark.parametrize(("query", "first"), [("&offset=4", b"3"), ("&tail=2", b"8")])
def test_from_where_one_was(alice: User, query: str, first: bytes) -> None:
    """A user who comes back after a lost connection would read everything again."""
    job_id = alice.shell(COUNT)
    alice.ended(job_id)
    with following(alice, job_id, query) as answer:
        assert next(lines(answer)) == first


def test_nothing_is_lost_at_the_end(alice: User) -> None:
    """The last lines, written just before the job ends, are the ones that say why."""
    for _ in range(20):
        job_id = alice.shell(f"{COUNT}; printf end")
        with following(alice, job_id) as answer:
            assert answer.content == b"1\n2\n3\n4\n5\n6\n7\n8\n9\nend"


def test_stderr_alone(alice: User) -> None:
    """Messages could not be followed apart from the data."""
    job_id = alice.shell("echo data; echo message >&2", separate_stderr=True)
    with following(alice, job_id, "&stream=stderr") as answer:
        assert answer.content == b"message\n"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/octet-stream"),
        ("text/plain", "text/plain"),
        ("application/json;q=0.5, text/plain", "text/plain"),
        ("image/png", "application/octet-stream"),
    ],
)
def test_followed_output_is_bytes(alice: User, accept: str, media: str) -> None:
    """`curl` alone could not follow a job."""
    job_id = alice.run("echo", "hi")
    answer = alice.get(f"/jobs/{job_id}/out?follow=true", headers={"Accept": accept})
    assert (answer.headers["Content-Type"], answer.content) == (media, b"hi\n")


def test_json_cannot_follow(alice: User) -> None:
    """A client would wait for a document that never ends."""
    job_id = alice.run("echo", "hi")
    answer = alice.get(f"/jobs/{job_id}/out?follow=true", headers={"Accept": "application/json"})
    document = refused(answer, 422, "invalid_request")
    assert document["errors"][0]["field"] == "follow"
    assert "application/octet-stream" in document["detail"]


def test_the_head_alone_does_not_follow(alice: User) -> None:
    """A HEAD request would take a place for as long as the job runs."""
    job_id = alice.run("sleep", "1000")
    answer = alice.head(f"/jobs/{job_id}/out?follow=true", headers=OCTETS)
    assert (answer.status_code, answer.headers["X-Job-Status"]) == (200, "running")


@pytest.fixture
def small(engine: Engine, tmp_path: Path) -> Iterator[Api]:
    """A server with a place for a single follower."""
    with support.serving(engine, tmp_path, max_long_requests=1, threads=2) as running:
        yield running


def test_followers_are_bounded(small: Api) -> None:
    """Enough followers would freeze the server for everybody."""
    alice, other = small.user("alice"), small.user("alice")
    job_id = alice.run("sleep", "1000")
    with following(alice, job_id):
        answer = other.get(f"/jobs/{job_id}/out?follow=true", headers=OCTETS)
        refused(answer, 503, "too_many_followers")
        assert int(answer.headers["Retry-After"]) > 0
        assert other.get(f"/jobs/{job_id}/out").status_code == 200
        answer = other.put(f"/jobs/{job_id}/kill", json={"now": True})
        assert answer.status_code in (200, 202), "a kill is never refused"


def test_one_user_cannot_take_all_places(engine: Engine, tmp_path: Path) -> None:
    """Anybody who opens enough followers would shut every other user out."""
    with support.serving(engine, tmp_path, max_long_requests=8) as some:
        alice, bob = some.user("alice"), some.user("bob")
        mine, his = alice.run("sleep", "1000"), bob.run("sleep", "1000")
        with contextlib.ExitStack() as seven:
            for _ in range(7):
                seven.enter_context(following(alice, mine))
            document = refused(
                alice.get(f"/jobs/{mine}/out?follow=true", headers=OCTETS),
                503,
                "too_many_followers",
            )
            assert "too many long-lived requests (7 open, 7 of them yours)" in str(document)
            following(bob, his).close()
        wait_until(lambda: _can_wait(alice, mine))


def test_who_hangs_up_frees_a_place(small: Api) -> None:
    """Followers that left would keep others out for as long as the job is silent."""
    alice, other = small.user("alice"), small.user("alice")
    job_id = alice.run("sleep", "1000")
    for _ in range(3):
        following(alice, job_id).close()
        wait_until(lambda: _can_wait(other, job_id))


def test_the_end_frees_a_place(small: Api) -> None:
    """Every followed job would take a place for ever."""
    alice, other = small.user("alice"), small.user("alice")
    for _ in range(3):
        with following(alice, alice.run("true")) as answer:
            assert answer.content == b""
        wait_until(lambda: _can_wait(other, other.run("true")))


def test_followers_end_when_the_server_does(engine: Engine, tmp_path: Path) -> None:
    """The server could not be stopped while somebody follows a job, or they would take its end
    for the job's."""
    with support.serving(engine, tmp_path, max_long_requests=2, drain_timeout=60) as ending:
        alice, other, third = (ending.user("alice") for _ in range(3))
        job_id = alice.shell("echo one; sleep 1000")
        assert alice.get(f"/jobs/{job_id}/status").status_code == 200
        waiting: list[requests.Response] = []
        path = f"/jobs/{job_id}/status?wait=60"
        thread = threading.Thread(target=lambda: waiting.append(other.get(path)))
        with following(alice, job_id) as answer:
            came = lines(answer)
            assert next(came) == b"one"
            thread.start()
            wait_until(lambda: "\nworkerd_followers 2\n" in third.get("/metrics").text)
            ending.edge.server.drain()
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                next(came)
            thread.join(30)
            assert not thread.is_alive()
        assert [each.json()["status"] for each in waiting] == ["running"]
    assert engine.get(job_id).state.value == "running", "jobs go on"


def test_a_job_that_is_removed_ends_abruptly(alice: User, engine: Engine) -> None:
    """A user who follows would take the end of the record for the end of the job."""
    job_id = alice.shell(COUNT)
    alice.ended(job_id)
    real = engine.follow

    def vanishing(*args: object, **kwargs: object) -> Iterator[bytes]:
        chunks = real(*args, **kwargs)  # type: ignore[arg-type]
        yield next(chunks)
        engine.remove(job_id)
        engine.get(job_id)

    engine.follow = vanishing  # type: ignore[method-assign]
    try:
        with following(alice, job_id) as answer, pytest.raises(requests.RequestException):
            assert answer.content
    finally:
        engine.follow = real  # type: ignore[method-assign]


def _can_wait(user: User, job_id: str) -> bool:
    return user.get(f"/jobs/{job_id}/status?wait=0.01").status_code == 200
