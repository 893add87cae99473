"""What a person is told while the server is away, and when it stays away."""

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
def _person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks at stderr."""
    monkeypatch.setattr(terminal, "is_terminal", lambda stream: stream is sys.stderr)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("clock", "_person")
@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (("status", "-q"), (DROP, DROP, ENDED)),
        (("wait",), (RUNS, DROP, DROP, ENDED)),
        (("out", "-f"), (SOME, DROP, DROP, REST, NO_MORE)),
    ],
    ids=["status", "wait", "out"],
)
def test_a_person_is_told_once_of_a_lost_connection(
    serve: Serve,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    answers: tuple[Answer, ...],
) -> None:
    """A terminal that shows nothing would look like a job that does nothing."""
    stub = serve(in_order(*answers))
    assert main([*words, "--server", stub.url, ID]) == 0
    told = capfd.readouterr().err
    lost = f"worker: the connection to {stub.url} is lost; trying again\n"
    again = f"worker: connected to {stub.url} again\n"
    assert (told.count(lost), told.count(again), told.count("worker: ")) == (1, 1, 2)
    assert told.index(lost) < told.index(again)


@pytest.mark.usefixtures("clock", "_person")
def test_each_outage_is_told_with_its_end(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    """A person would not know whether it still tries, or has lost the connection again."""
    stub = serve(in_order(SOME, DROP, REST_CUT, DROP, NO_MORE))
    assert main(["out", "-f", "--server", stub.url, ID]) == 0
    told = capfd.readouterr().err.splitlines()
    assert [line.split()[1] for line in told] == ["the", "connected", "the", "connected"]


@pytest.mark.usefixtures("clock")
def test_a_script_is_not_told(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    """A log would have lines on what did no harm."""
    stub = serve(in_order(SOME, DROP, REST, NO_MORE))
    assert main(["out", "-f", "--server", stub.url, ID]) == 0
    assert capfd.readouterr() == ("datamore", "")


@pytest.mark.usefixtures("_person")
def test_a_message_leaves_the_line_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A message would begin in the middle of the line that says what is waited for."""
    terminal.overwrite("waiting")
    terminal.note("lost")
    terminal.overwrite("")
    terminal.note("over")
    assert capsys.readouterr().err == (
        "\rwaiting\x1b[K\r\x1b[Kworker: lost\nwaiting\r\x1b[Kworker: over\n"
    )


@pytest.mark.parametrize("term", ["dumb", ""])
@pytest.mark.usefixtures("_person")
def test_a_dumb_terminal_gets_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    """An editor's shell would show escape sequences instead of what is waited for."""
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
def test_who_gives_up_says_how_to_come_back(
    serve: Serve,
    clock: Clock,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    back: str,
    gone: bool,
) -> None:
    """A person would believe that the job is over, or not know how to find it again."""
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
def test_who_was_never_there_is_not_promised_a_job(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A wrong address would be met with advice on a job that may not be."""
    assert main([words[0], "--server", "https://127.0.0.1:1", *words[1:]]) == 125
    assert "may still run" not in capfd.readouterr().err
