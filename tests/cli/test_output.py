"""Reading output: every byte once and in order, whatever happens to the connections."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cli_clock import Clock
from support.cli_stub import DROP, Answer, Request, Script, Stub, answer, chunked, problem
from worker_cli import Client, ConnectionLost, JobNotFound

Serve = Callable[[Script], Stub]
ClientOf = Callable[[Stub], Client]

ID = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"


class Job:
    """A job's output on a server whose connections break as `breaks` says.

    `breaks` has for each answer how many bytes it carries before the connection is lost, or None
    for a whole one; afterwards all are whole. `ends_after` is how many answers begin before the
    job has ended.
    """

    def __init__(
        self,
        data: bytes,
        *,
        breaks: list[int | None] | None = None,
        ends_after: int = 1,
        start: int = 0,
        grows: int = 0,
    ) -> None:
        self.data, self.start, self._grows = data, start, grows
        self._breaks = list(breaks or [])
        self._ends_after = ends_after
        self.answers = 0

    def __call__(self, request: Request) -> Answer:
        self.answers += 1
        ended = self.answers > self._ends_after
        # While it runs, a follower is sent only a part; the rest comes after the restart.
        known = self.data if ended or not self._grows else self.data[: -self._grows]
        begin = self._begin(request, known)
        body = known[begin:]
        headers = {
            "X-Output-Start": str(self.start),
            "X-Output-Size": str(len(known)),
            "X-Job-Status": "completed" if ended else "running",
        }
        carried = self._breaks.pop(0) if self._breaks else None
        if "follow" in request.query:
            chunks = [body[at : at + 7] for at in range(0, len(body), 7)]
            if carried is None:
                return chunked(chunks, headers)
            return chunked([body[:carried]] if carried else [], headers, whole=False)
        whole = answer(200, body, headers)
        if carried is None:
            return whole
        return Answer(whole.data[: len(whole.data) - len(body) + carried], cut=carried < len(body))

    def _begin(self, request: Request, known: bytes) -> int:
        if "tail" in request.query:
            lines = known.splitlines(keepends=True)
            return len(known) - sum(map(len, lines[-int(request.query["tail"][0]) :]))
        return max(self.start, int(request.query["offset"][0]))


def test_output_is_the_bytes_of_the_job(serve: Serve, client_of: ClientOf) -> None:
    """A tar file would arrive damaged."""
    data = bytes(range(256)) * 300
    client = client_of(serve(Job(data)))
    assert client.output(ID) == data
    assert client.output(ID, offset=1000) == data[1000:]


def test_empty_output_is_empty(serve: Serve, client_of: ClientOf) -> None:
    """A job that wrote nothing would look like an error."""
    client = client_of(serve(Job(b"", ends_after=0)))
    assert client.output(ID) == b""
    assert list(client.follow(ID)) == []


def test_follow_resumes_where_it_was(serve: Serve, client_of: ClientOf) -> None:
    """After a lost connection, lines would be missing or repeated."""
    data = random.Random(1).randbytes(500)
    job = Job(data, breaks=[100, 0, 0, 57, None], ends_after=3)
    stub = serve(job)
    assert b"".join(client_of(stub).follow(ID)) == data
    offsets = [int(each.query["offset"][0]) for each in stub.requests]
    assert offsets == sorted(offsets)
    assert offsets[1] == 100


def test_follow_survives_answers_that_never_begin(serve: Serve, client_of: ClientOf) -> None:
    """A restart of the server would end `worker out -f`."""
    job = Job(b"one\ntwo\nthree\n", breaks=[4])
    left = [job, lambda _: DROP, lambda _: problem(503, "draining", "soon"), lambda _: DROP]

    def script(request: Request) -> Answer:
        return (left.pop(0) if left else job)(request)

    assert b"".join(client_of(serve(script)).follow(ID)) == b"one\ntwo\nthree\n"


def test_a_clean_end_is_not_taken_for_the_jobs_end(serve: Serve, client_of: ClientOf) -> None:
    """A server that is being stopped ends its followers cleanly: the rest would never be seen."""
    job = Job(b"before the restart\nafter it\n", ends_after=1, grows=9)
    stub = serve(job)
    assert b"".join(client_of(stub).follow(ID)) == job.data
    assert len(stub.requests) == 2


def test_a_quiet_server_that_ends_followers_is_not_hammered(
    serve: Serve, client_of: ClientOf
) -> None:
    """A client would send a thousand requests a second while nothing happens."""
    stub = serve(Job(b"", ends_after=20))
    client = client_of(stub)
    assert b"".join(client.follow(ID)) == b""
    slept = clock_of(client).slept
    assert len(slept) == 20
    assert slept[-1] >= 1.0


def test_follow_polls_where_followers_are_full(serve: Serve, client_of: ClientOf) -> None:
    """On a busy server `run --wait` would be refused."""
    job = Job(b"one\ntwo\n", ends_after=2, grows=4)

    def script(request: Request) -> Answer:
        if "follow" in request.query:
            return problem(503, "too_many_followers", "full", headers={"Retry-After": "5"})
        return job(request)

    client = client_of(serve(script))
    assert b"".join(client.follow(ID)) == b"one\ntwo\n"
    assert 5.0 in clock_of(client).slept


def test_output_stops_at_what_there_was_at_first(serve: Serve, client_of: ClientOf) -> None:
    """After a lost connection, `worker out` of a job that keeps writing would never end."""
    job = Job(b"0123456789", breaks=[3], ends_after=1, grows=5)
    assert client_of(serve(job)).output(ID) == b"01234"


def test_tail_is_followed_without_a_seam(serve: Serve, client_of: ClientOf) -> None:
    """Between the last lines and the new ones, lines would be missing or repeated."""
    job = Job(b"1\n22\n333\n4444\n", ends_after=2, grows=5)
    assert b"".join(client_of(serve(job)).follow(ID, tail=2)) == b"22\n333\n4444\n"


def test_tail_survives_a_lost_connection(serve: Serve, client_of: ClientOf) -> None:
    """Lines would be missing from the last ten."""
    job = Job(b"1\n22\n333\n4444\n", breaks=[3])
    assert client_of(serve(job)).output(ID, tail=2) == b"333\n4444\n"


def test_gaps_are_reported(serve: Serve, client_of: ClientOf) -> None:
    """A reader would believe that the newest output is all of the output."""
    gaps: list[tuple[int, int]] = []
    client = client_of(serve(Job(b"x" * 100 + b"kept", start=100)))
    output = client.chunks(ID, offset=20, on_gap=lambda *gap: gaps.append(gap))
    assert b"".join(output) == b"kept"
    assert gaps == [(20, 100)]
    assert output.offset == 104


def test_size_and_offset_tell_the_progress(serve: Serve, client_of: ClientOf) -> None:
    """A progress bar would have nothing to show."""
    output = client_of(serve(Job(b"x" * 1000))).chunks(ID)
    first = next(iter(output))
    assert (output.size, output.offset) == (1000, len(first))


def test_unknown_job_is_not_followed(serve: Serve, client_of: ClientOf) -> None:
    """A command with a mistyped id would wait for ever."""
    stub = serve(lambda _: problem(404, "job_not_found", "you have no such job"))
    with pytest.raises(JobNotFound):
        list(client_of(stub).follow(ID))
    assert len(stub.requests) == 1


def test_follow_gives_up_on_a_server_that_stays_away(serve: Serve, client_of: ClientOf) -> None:
    """A terminal would hang for ever on a server that is gone for good."""
    job = Job(b"one\ntwo\n", breaks=[4])
    stub = serve(lambda request: job(request) if job.answers == 0 else DROP)
    output = client_of(stub).follow(ID)
    chunks = iter(output)
    assert next(chunks) == b"one\n"
    with pytest.raises(ConnectionLost):
        next(chunks)
    assert output.offset == 4


def test_no_way_of_breaking_loses_or_repeats_a_byte(
    serve: Callable[[Script], Stub], client_of: Callable[[Stub], Client]
) -> None:
    """A connection lost at an unlucky moment would damage the output of a long job."""
    stub = serve(lambda _: DROP)
    client = client_of(stub)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        content = data.draw(st.binary(max_size=200))
        lengths = st.none() | st.integers(0, len(content))
        stub.script = Job(
            content,
            breaks=data.draw(st.lists(lengths, max_size=6)),
            ends_after=data.draw(st.integers(0, 6)),
            grows=data.draw(st.integers(0, len(content))),
        )
        assert b"".join(client.follow(ID)) == content

    check()


def clock_of(client: Client) -> Clock:
    clock: Clock = client.clock  # type: ignore[attr-defined]
    return clock
