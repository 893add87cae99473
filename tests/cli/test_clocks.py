"""Clocks that differ or are set: times are shown and requested as the server measured them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.cli_run import Worker
from support.cli_stub import Answer, Request, Script, Stub, answer
from worker_cli import Client

ID = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"
DAY = timedelta(days=1)

Serve = Callable[[Script], Stub]


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def serving(ahead: timedelta, **fields: object) -> Script:
    """A script for a server with one job, whose clock is ahead of ours."""

    def script(request: Request) -> Answer:
        now = datetime.now(UTC) + ahead
        record = {"id": ID, "status": "running", "created_at": at(now - timedelta(minutes=150))}
        record |= {"started_at": at(now - timedelta(minutes=150))} | fields
        body = {"jobs": [record]} if request.path == "/jobs" else record
        return answer(200, body, {"Date": format_datetime(now, usegmt=True)})

    return script


@pytest.mark.parametrize("ahead", [timedelta(), DAY, -DAY])
def test_times_in_a_list_are_the_server_s(worker: Worker, serve: Serve, ahead: timedelta) -> None:
    """A job of a minute would show 2h00m after a step of the clock, or an age of a day."""
    stub = serve(serving(ahead, duration=61.0))
    shown = worker.ok("list", "--server", stub.url).out
    assert shown.split("\n")[1].split()[1:5] == ["running", "-", "2h", "1m01s"]
    shown = worker.ok("status", "--server", stub.url, "-o", "json", ID).out
    assert '"duration": 61.0' in shown
    terminal = worker.at_terminal("status", "--server", stub.url, ID)
    shown = terminal.read().decode()
    assert "runs     1m01s, since " in shown
    assert ", 2h ago" in shown


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"duration": 0.5, "usage": {"wall_seconds": 9.0}}, "0.50s"),
        ({"usage": {"wall_seconds": 9.0}}, "9.0s"),  # a server of 0.1.0
        ({"status": "lost", "duration": None, "ended_at": "2026-11-24T11:00:00.000Z"}, "-"),
        ({"status": "queued", "started_at": None, "duration": None}, "-"),
        ({"duration": "soon"}, "-"),
    ],
)
def test_what_was_not_measured_is_not_shown(
    worker: Worker, serve: Serve, fields: dict[str, object], shown: str
) -> None:
    """A lost job would seem to have run until the server noticed that it was gone."""
    done = worker.ok("list", "--server", serve(serving(timedelta(), **fields)).url)
    assert done.out.split("\n")[1].split()[4] == shown


@pytest.mark.parametrize(
    ("ahead", "message"),
    [
        (timedelta(hours=3, seconds=10), "is 3h00m ahead of this machine's"),
        (timedelta(seconds=-95), "is 1m3"),
        (timedelta(seconds=40), ""),
        (timedelta(seconds=-40), ""),
    ],
)
@pytest.mark.parametrize("words", [(), ("-q",), ("-o", "json")])
def test_status_warns_of_clocks_that_differ(
    worker: Worker, serve: Serve, ahead: timedelta, message: str, words: tuple[str, ...]
) -> None:
    """A user would compare times in the record with a log of this machine."""
    done = worker.ok("status", "--server", serve(serving(ahead)).url, *words, ID)
    assert (message in done.stderr) if message else not done.stderr
    assert done.stderr.count("the server's clock is ") == bool(message)


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Nov 99999 00:00:00 GMT"])
def test_an_invalid_date_is_ignored(
    serve: Serve, client_of: Callable[[Stub], Client], date: str
) -> None:
    """An invalid header would end in a traceback."""
    client = client_of(serve(lambda _: answer(200, {"user": "ann"}, {"Date": date})))
    client.whoami()
    assert client.clock_ahead == 0.0


def test_durations_are_sent_as_they_are(worker: Worker, serve: Serve) -> None:
    """With a clock one day ahead, `prune` would delete jobs that ended a second ago."""
    stub = serve(lambda _: answer(200, {"jobs": []}))
    worker.ok("list", "--server", stub.url, "--since", "1h30m")
    worker.ok("prune", "--server", stub.url, "--yes", "--older-than", "12h")
    worker.ok("prune", "--server", stub.url, "--yes")
    since, older, every = (request.query for request in stub.requests)
    assert since["since"] == ["5400000ms"]
    assert older["ended_before"] == ["43200000ms"]
    assert "ended_before" not in every


def test_programs_may_give_a_time_or_how_long_ago(
    serve: Serve, client_of: Callable[[Stub], Client]
) -> None:
    """A program would have to know the server's time."""
    stub = serve(lambda _: answer(200, {"jobs": []}))
    client = client_of(stub)
    moment = datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert list(client.list(since=moment, ended_before=timedelta(seconds=0.25))) == []
    assert stub.requests[0].query["since"] == ["2026-01-31T09:00:00+00:00"]
    assert stub.requests[0].query["ended_before"] == ["250ms"]
