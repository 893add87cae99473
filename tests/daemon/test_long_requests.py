"""Requests that could take much memory or time: long bodies, long records, long searches."""

import contextlib
import json
import threading

import falcon
import pytest
from support.api import JSON, Api, User, refused
from support.waiting import wait_until
from worker_core.model import spec
from worker_core.store import listing
from worker_daemon import problems, strict_json
from worker_daemon.api import budget, long_requests, request_body, resource
from worker_daemon.api.resources import jobs

LONG = ["x" * 100_000] * 12  # arguments, of more than a page may have together


def job(args: object) -> bytes:
    return b'{"command": "true", "args": %s}' % json.dumps(args).encode()


# What a job object and a body may be.


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (job(["x" * 200_000]), "args[0]", f"must be at most {spec.MAX_STRING} bytes, not 200000"),
        (job(["x" * 100_000] * 70), "args", "give the job a file or its standard input"),
        (b'{"command": "%s"}' % (b"x" * 200_000), "command", "must be at most"),
        (b'{"command": "true", "env": {"A": "%s"}}' % (b"x" * 200_000), "env['A']", "its name"),
        (b'{"command": "true", "cwd": "/%s"}' % (b"x" * 5000), "cwd", "at most 4095 bytes"),
    ],
)
def test_what_no_machine_can_run_is_refused(
    alice: User, body: bytes, field: str, message: str
) -> None:
    """The server would keep megabytes of a job that can never start."""
    document = refused(alice.post("/jobs/run", data=body, headers=JSON), 422, "invalid_job")
    (error,) = document["errors"]
    assert error["field"] == field
    assert message in error["message"]


@pytest.mark.parametrize(
    "element", [b"[]", b"{}", b"1", b'""', b'"a"', b'{"a":[]}', b'"\\\\"', b'"\\""']
)
def test_a_body_of_too_many_values_is_refused(alice: User, element: bytes) -> None:
    """A body of 15 MiB of `[]` took 17 s and 2.7 GB."""
    body = b'{"command": "x", "args": [%s]}' % b",".join([element] * (strict_json.MOST_VALUES + 1))
    document = refused(alice.post("/jobs/run", data=body, headers=JSON), 413, "body_too_large")
    assert f"more than {strict_json.MOST_VALUES} values" in document["detail"]


def test_a_text_may_have_as_many_commas_as_it_likes(alice: User) -> None:
    """A table that is given as input would be refused."""
    text = ',[{"\\' * 1_000_000
    job_id = alice.run("wc", "-c", stdin=text)
    alice.ended(job_id)
    assert int(alice.out(job_id)) == len(text)


@pytest.mark.parametrize("text", [b'"', b'"\\', b'"\\"', b'"' * 99, b'"\\\\' * 99, b"\\" * 99])
def test_a_text_without_an_end_is_counted_once(text: bytes) -> None:
    """A body that is not JSON would take time by the square of its length."""
    body = b"[" + b"," * strict_json.MOST_VALUES + text
    with pytest.raises(strict_json.TooManyValuesError):
        strict_json.decode(body)
    with pytest.raises(ValueError, match="it is not JSON"):
        strict_json.decode(b"[" + text)


def test_fifty_unknown_fields_are_named_and_no_more(alice: User) -> None:
    """The answer, and the memory for it, would grow with the body."""
    body = json.dumps({"command": "true"} | {f"k{n}" * 100: n for n in range(10_000)})
    answer = alice.post("/jobs/run", data=body, headers=JSON)
    document = refused(answer, 422, "invalid_job")
    assert len(document["errors"]) == 50
    assert len(answer.content) < 50_000
    body = json.dumps({f"k{n}": n for n in range(1_000)})
    answer = alice.put(f"/jobs/{alice.run('true')}/kill", data=body, headers=JSON)
    document = refused(answer, 422, "invalid_request")
    assert len(document["errors"]) == 50


def test_a_key_that_comes_twice_is_not_repeated_whole(alice: User) -> None:
    """An answer would be as long as the body."""
    key = "k" * 1_000_000
    body = f'{{"{key}": 1, "{key}": 2}}'
    answer = alice.post("/jobs/run", data=body, headers=JSON)
    detail = refused(answer, 400, "malformed_request")["detail"]
    assert "(1000000 characters) occurs twice" in detail
    assert len(answer.content) < 1000


@pytest.mark.parametrize("path", ["kill", "signal"])
def test_only_a_job_may_have_a_long_body(alice: User, path: str) -> None:
    """A kill of 16 MiB would be read."""
    body = json.dumps({"signal": "TERM", "reason": "x" * request_body.LONG})
    answer = alice.put(f"/jobs/{alice.run('true')}/{path}", data=body, headers=JSON)
    refused(answer, 413, "body_too_large")


# What long bodies and long records may take together.


def nothing() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def test_a_budget_lends_no_more_than_there_is() -> None:
    """Enough requests at a time would take all memory of the machine."""
    shared = budget.Budget(100)
    taken = threading.Event()

    def take() -> None:
        with shared.lent(60, "a", nothing):
            taken.set()

    with shared.lent(60, "a", nothing):
        thread = threading.Thread(target=take)
        thread.start()
        wait_until(lambda: shared._line)
        assert not taken.is_set()
    assert taken.wait(10)
    thread.join()
    with shared.lent(1 << 40, "a", nothing):  # more than there is: alone
        pass


def test_who_waits_too_long_for_its_share_is_refused() -> None:
    """A request would hang for ever."""
    shared = budget.Budget(100, seconds=0.01)
    with (
        shared.lent(100, "a", nothing),
        pytest.raises(problems.Problem) as caught,
        shared.lent(1, "a", nothing),
    ):
        pass
    assert caught.value.code == "server_busy"
    assert caught.value.headers["Retry-After"] == "5"
    with shared.lent(100, "a", nothing):
        pass


def test_the_first_in_line_is_the_first_to_be_served() -> None:
    """A large request would wait for ever while small ones pass it."""
    shared = budget.Budget(100)
    order: list[int] = []

    def take(size: int) -> None:
        with shared.lent(size, "a", nothing):
            order.append(size)

    threads = []
    with shared.lent(100, "a", nothing):
        for size in (90, 20):
            threads.append(threading.Thread(target=take, args=(size,)))
            threads[-1].start()
            wait_until(lambda: len(shared._line) == len(threads))
    for thread in threads:
        thread.join()
    assert order == [90, 20]


def test_a_user_alone_cannot_shut_out_others() -> None:
    """A user with hundreds of long requests in line would keep everybody else from theirs."""
    shared = budget.Budget(100)
    order: list[str] = []

    def take(user: str) -> None:
        with shared.lent(50, user, nothing):
            order.append(user)

    threads = []
    with shared.lent(50, "a", nothing):
        with shared.lent(50, "c", nothing):
            for user in "aab":
                threads.append(threading.Thread(target=take, args=(user,)))
                threads[-1].start()
                wait_until(lambda: len(shared._line) == len(threads))
        threads[2].join()
        wait_until(lambda: len(order) == 3)
    for thread in threads:
        thread.join()
    assert order == ["b", "a", "a"]


def test_long_requests_leave_time_to_others() -> None:
    """Long requests without a pause would keep the interpreter from all short ones."""
    rests: list[float] = []
    times = iter([1.0, 2.0, 2.5])  # seconds of CPU
    shared = budget.Budget(100, clock=lambda: next(times), sleep=rests.append)
    with shared.lent(100, "a", nothing):
        pass
    assert rests == [], "nobody waits"
    with shared.lent(100, "a", nothing):
        shared._line[object()] = "b"
    assert rests == [0.5]


def test_a_long_body_has_its_share_while_it_is_answered(
    api: Api, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four bodies of 15 MiB at a time took 3.3 GB."""
    seen = []
    whole = budget.Budget.lent

    def lent(self: budget.Budget, size: int, *more: object) -> object:
        seen.append(size)
        return whole(self, size, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(budget.Budget, "lent", lent)
    alice.run("true")
    assert seen == []
    alice.run("true", stdin="x" * request_body.LONG)
    (size,) = seen
    assert request_body.LONG < size < 2 * request_body.LONG


# Long records.


def test_a_page_ends_before_it_is_too_long(own: Api) -> None:
    """`GET /jobs?limit=500` over 30 jobs with 8 MiB of arguments each took 1.2 GB."""
    alice = own.user("alice")
    ids = [alice.run("true", *LONG) for _ in range(3)] + [alice.run("true")]
    found, pages, query = [], [], "?limit=500"
    while True:
        told = alice.get(f"/jobs{query}").json()
        found += [each["id"] for each in told["jobs"]]
        pages.append(len(told["jobs"]))
        if told["next_cursor"] is None:
            break
        query = f"?limit=500&cursor={told['next_cursor']}"
    assert found == ids[::-1]
    assert pages == [1, 1, 1, 1]
    assert told["jobs"][0]["spec"]["args"] == LONG


def test_a_long_record_is_answered_whole_and_takes_a_place(own: Api) -> None:
    """Enough long answers that nobody reads would take all memory of the machine."""
    alice = own.user("alice")
    job_id = alice.run("true", *LONG)
    answer = alice.get(f"/jobs/{job_id}")
    assert answer.json()["spec"]["args"] == LONG
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    other = own.user("alice")
    wait_until(lambda: "\nworkerd_followers 0\n" in other.get("/metrics").text)


def test_long_answers_are_bounded(
    own: Api, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """640 answers of 6 MiB could wait in memory for their readers."""
    alice = own.user("alice")
    job_id = alice.run("true", *LONG)
    monkeypatch.setattr(resource, "_LARGE", 1 << 20)
    monkeypatch.setattr(long_requests.LongRequests, "enter", _full)
    refused(alice.get(f"/jobs/{job_id}"), 503, "too_many_followers")
    assert alice.get(f"/jobs/{job_id}/status").status_code == 200


def _full(*_: object) -> None:
    raise problems.Problem("too_many_followers", "full")


def test_a_job_that_is_removed_meanwhile_spoils_no_page(
    own: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list would be answered with 404."""
    alice = own.user("alice")
    job_id = alice.run("true", *LONG)
    alice.ended(job_id)
    whole = jobs.Jobs._page

    def page(*call: object) -> object:
        found = whole(*call)  # type: ignore[arg-type]
        own.engine.remove(job_id)
        return found

    monkeypatch.setattr(jobs.Jobs, "_page", page)
    assert alice.get("/jobs").json() == {"jobs": [], "next_cursor": None}
    refused(alice.get(f"/jobs/{job_id}"), 404, "job_not_found")


# Long searches.


@pytest.fixture
def slow(own: Api, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody whose searches are looked at with each instruction."""
    monkeypatch.setattr(listing, "_STEP", 1)
    alice = own.user("alice")
    for _ in range(3):
        alice.ended(alice.run("true", labels={"a": "b"}))
    return alice


def test_a_search_has_an_end(slow: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for a label among a million jobs would take minutes."""
    assert len(slow.get("/jobs?label=a=b").json()["jobs"]) == 3
    monkeypatch.setattr(jobs, "_SEARCH_SECONDS", 0.0)
    document = refused(slow.get("/jobs?label=a=b"), 422, "invalid_request")
    assert "the search took more than 0 s; give fewer filters" in document["detail"]
    monkeypatch.undo()
    assert len(slow.get("/jobs?label=a=b").json()["jobs"]) == 3


def test_a_long_search_takes_a_place(own: Api, slow: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many searches at a time would take all processors."""
    monkeypatch.setattr(jobs, "_SEARCH_AT_ONCE", -1.0)
    assert slow.get("/jobs?label=a=b").status_code == 200
    monkeypatch.setattr(long_requests.LongRequests, "enter", _full)
    refused(slow.get("/jobs?label=a=b"), 503, "too_many_followers")


def test_a_search_ends_with_its_client(slow: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search would continue although its client has left."""

    def gone(_req: falcon.Request) -> bool:
        return True

    monkeypatch.setattr(long_requests, "gone", gone)
    refused(slow.get("/jobs?label=a=b"), 503, "draining")
