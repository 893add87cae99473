"""What the command reports while the server is unavailable."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from support.cli_clock import Clock
from support.cli_stub import DROP, Answer, Request, Script, Stub, answer, chunked, in_order
from worker_cli.__main__ import main
from worker_cli.ui import progress, terminal

ID = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"

Serve = Callable[[Script], Stub]

RUNS = answer(200, {"id": ID, "status": "running"})
ENDED = answer(200, {"id": ID, "status": "completed", "exit_code": 0})
HEADERS = {"X-Output-Start": "0", "X-Output-Size": "4", "X-Job-Status": "running"}
SOME = chunked([b"data"], HEADERS, whole=False)
AFTER = HEADERS | {"X-Output-Start": "4", "X-Output-Size": "8", "X-Job-Status": "completed"}
REST = chunked([b"more"], AFTER)
REST_CUT = chunked([b"more"], AFTER, whole=False)
NO_MORE = chunked([], AFTER | {"X-Output-Start": "8"})


@pytest.fixture
def _stderr_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stderr a terminal."""
    monkeypatch.setattr(terminal, "is_terminal", lambda stream: stream is sys.stderr)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("clock", "_stderr_is_a_terminal")
@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (("status", "-q"), (DROP, DROP, ENDED)),
        (("wait",), (RUNS, DROP, DROP, ENDED)),
        (("out", "-f"), (SOME, DROP, DROP, REST, NO_MORE)),
    ],
    ids=["status", "wait", "out"],
)
def test_a_lost_connection_is_reported_once_on_a_terminal(
    serve: Serve,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    answers: tuple[Answer, ...],
) -> None:
    """During an outage, a terminal that shows nothing would look like a job that does nothing."""
    stub = serve(in_order(*answers))
    assert main([*words, "--server", stub.url, ID]) == 0
    stderr = capfd.readouterr().err
    lost = f"worker: the connection to {stub.url} is lost; trying again\n"
    again = f"worker: connected to {stub.url} again\n"
    assert (stderr.count(lost), stderr.count(again), stderr.count("worker: ")) == (1, 1, 2)
    assert stderr.index(lost) < stderr.index(again)


@pytest.mark.usefixtures("clock", "_stderr_is_a_terminal")
def test_each_outage_and_its_end_are_reported(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    """A user would not know whether the connection is restored."""
    stub = serve(in_order(SOME, DROP, REST_CUT, DROP, NO_MORE))
    assert main(["out", "-f", "--server", stub.url, ID]) == 0
    message = capfd.readouterr().err.splitlines()
    assert [line.split()[1] for line in message] == ["the", "connected", "the", "connected"]


@pytest.mark.usefixtures("clock")
def test_outages_are_not_reported_to_scripts(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs of scripts would contain messages about outages that had no effect."""
    stub = serve(in_order(SOME, DROP, REST, NO_MORE))
    assert main(["out", "-f", "--server", stub.url, ID]) == 0
    assert capfd.readouterr() == ("datamore", "")


@pytest.mark.usefixtures("_stderr_is_a_terminal")
def test_a_message_leaves_the_line_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A message would begin in the middle of the progress line."""
    terminal.overwrite("waiting")
    terminal.note("lost")
    terminal.overwrite("")
    terminal.note("over")
    assert capsys.readouterr().err == (
        "\rwaiting\x1b[K\r\x1b[Kworker: lost\nwaiting\r\x1b[Kworker: over\n"
    )


@pytest.mark.parametrize("term", ["dumb", ""])
@pytest.mark.usefixtures("_stderr_is_a_terminal")
def test_a_dumb_terminal_gets_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    """A terminal without escape sequences, as in editors, would show them as text."""
    monkeypatch.setenv("TERM", term)
    with progress.Line(clock=lambda: 0.0) as line:
        line.announce(lambda: "waiting for 1 of 1")
        line.show(lambda: "50%")
    assert capsys.readouterr().err == "worker: waiting for 1 of 1\n"


def back_to(words: tuple[str, ...]) -> str:
    return f"the job may still run; 4 bytes were read, to continue: worker {' '.join(words)} "


@pytest.mark.parametrize("gone", [False, True], ids=["breaks off", "does not listen"])
@pytest.mark.parametrize(
    ("words", "back"),
    [
        (("wait", ID), f"the job may still run, to wait again: worker wait {ID}\n"),
        (("out", "-f", ID), f"{back_to(('out', '-f'))}--offset 4 {ID}\n"),
        (("out", "-f", "--stderr", ID), f"{back_to(('out', '-f', '--stderr'))}--offset 4 {ID}\n"),
        (
            ("run", "--wait", "make"),
            f"the job may still run; to follow it again: worker out -f {ID}\n",
        ),
    ],
    ids=["wait", "out", "stderr", "run"],
)
def test_a_command_that_gives_up_says_how_to_continue(
    serve: Serve,
    clock: Clock,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    back: str,
    gone: bool,
) -> None:
    """A user would believe that the job has ended, or not know how to follow it again."""
    left = {"out": [SOME], "status": [RUNS], "run": [answer(201, {"id": ID, "status": "running"})]}

    def script(request: Request) -> Answer:
        answers = left[request.path.rpartition("/")[2]]
        return answers.pop() if answers else DROP

    stub = serve(script)
    if gone:
        clock.meanwhile = stub.__exit__
    began = clock.now
    assert main([words[0], "--server", stub.url, *words[1:]]) == 125
    assert 28 < clock.now - began < 65
    assert back in capfd.readouterr().err


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("words", [("wait", ID), ("out", "-f", ID)])
def test_an_unreachable_server_gets_no_advice_about_a_job(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """With a wrong address, the message would give advice about a job that does not exist."""
    assert main([words[0], "--server", "https://127.0.0.1:1", *words[1:]]) == 125
    assert "may still run" not in capfd.readouterr().err
