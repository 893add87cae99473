"""The log: one line an event, whatever a client sends."""

import json
import logging
import sys

import pytest
from worker_daemon import logs


def record(message, *arguments, **extras):
    """Return a record as a logger makes it."""
    made = logging.LogRecord("worker_daemon.x", logging.INFO, "f.py", 1, message, arguments, None)
    vars(made).update(extras)
    return made


def text(*arguments, stamped=False, **extras):
    """Return the line for people."""
    return logs.TextFormatter(stamped=stamped).format(record(*arguments, **extras))


def test_a_line_for_people_has_what_the_caller_added():
    """The log would not say who did it."""
    assert text("run %s", "x", user="alice", job=None) == "info: run x user=alice job=None"


def test_the_time_is_there_unless_the_journal_adds_it():
    """An event could not be found again, or would have two times."""
    made = record("x")
    made.created, made.msecs = 0.25, 250.0
    assert logs.TextFormatter(stamped=True).format(made) == "1970-01-01T00:00:00.250Z info: x"
    assert logs.TextFormatter(stamped=False).format(made) == "info: x"


@pytest.mark.parametrize("hostile", ["a\nb", "a\rb", "a\x1b[2Jb", "a\x7fb", "a\x9bb", "a\u2028b"])
def test_a_client_cannot_begin_a_line_of_its_own(hostile):
    """Anybody who sends a line break could put any line into the log, or move the cursor."""
    for line in (text(hostile), text("x", user=hostile), text("%s", hostile)):
        assert line.isprintable()
    line = logs.JsonFormatter().format(record("x", user=hostile))
    assert json.loads(line)["user"] == hostile
    assert line.isprintable()


def test_a_json_line_has_everything():
    """A log collector would miss the level or the time."""
    made = record("run %s", "x", user="alice", argv=["ls"], odd={1})
    made.created, made.msecs = 1.0, 0.0
    assert json.loads(logs.JsonFormatter().format(made)) == {
        "time": "1970-01-01T00:00:01.000Z",
        "level": "info",
        "logger": "worker_daemon.x",
        "message": "run x",
        "user": "alice",
        "argv": ["ls"],
        "odd": "{1}",
    }


@pytest.mark.parametrize("formatter", [logs.TextFormatter(stamped=False), logs.JsonFormatter()])
def test_an_exception_is_in_the_log(formatter):
    """The cause of an internal error could not be found."""
    made = record("failed")
    try:
        raise RuntimeError("the cause")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    assert "RuntimeError: the cause" in formatter.format(made)


def test_text_that_is_no_text_can_be_logged():
    """A job with an argument that is not UTF-8 would cause an error in the log."""
    odd = "\udcff"
    assert text("run", argv=[odd]) == "info: run argv=['\\udcff']"
    line = text("run", name=odd)
    assert line.encode("utf-8", "backslashreplace")


@pytest.fixture
def written(monkeypatch):
    """Return what was written to stderr, in pieces of at most three bytes."""
    pieces = []

    def write(descriptor, data):
        assert descriptor == 2
        pieces.append(bytes(data[:3]))
        return len(pieces[-1])

    monkeypatch.setattr(logs.os, "write", write)
    return pieces


def test_a_line_is_written_whole(written):
    """A pipe that is nearly full would cut lines."""
    handler = logs.Stderr()
    handler.setFormatter(logs.TextFormatter(stamped=False))
    handler.handle(record("\udcff and more"))
    assert b"".join(written) == b"info: \\udcff and more\n"


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch, capsys):
    """Every request would fail when the disk of the log is full."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs.os, "write", full)
    handler = logs.Stderr()
    handler.handle(record("x"))
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("forged", ["/nope status=200", 'a "b" c', "a=b", "'", "a\nb=c"])
def test_nobody_adds_a_field_of_his_own(forged):
    """A path would look like another request's status."""
    line = text("request", path=forged, status=404)
    shown = json.dumps(forged, ensure_ascii=False)
    assert line == f"info: request path={shown} status=404"


def test_a_text_that_runs_backwards_is_shown_as_it_is():
    """What an administrator reads would not be what happened."""
    assert text("kill", reason="a\u202eb") == "info: kill reason=a\\u202eb"


LONG = {
    "command line": {"argv": ["sh", "-c", "x" * (8 << 20)]},
    "many arguments": {"argv": ["x"] * 500_000},
    "many long arguments": {"argv": ["x" * 900] * 5_000},
    "path": {"path": "/" + "\x00" * 64_000},
    "reason": {"reason": "\udcff" * 100_000},
    "name": {"user": "n" * 100_000},
}


@pytest.mark.parametrize("extras", LONG.values(), ids=LONG)
@pytest.mark.parametrize("formatter", [logs.TextFormatter(stamped=False), logs.JsonFormatter()])
def test_what_users_send_is_cut_and_its_length_is_shown(formatter, extras):
    """The log would grow by 8 MiB with each job, and by 64 KiB with each request of a stranger."""
    line = formatter.format(record("run", **extras))
    assert len(line) < 40_000
    (value,) = extras.values()
    parts = [value] if isinstance(value, str) else [value, max(value, key=len)]
    lengths = [len(part) for part in parts if len(part) > 1000]
    assert lengths
    assert all(f"{length} in all" in line or f"{length} char" in line for length in lengths)


@pytest.mark.parametrize("formatter", [logs.TextFormatter(stamped=False), logs.JsonFormatter()])
def test_a_message_and_an_exception_are_cut(formatter):
    """An error that repeats what a user sent would fill the disk."""
    made = record("failed: %s", "x" * 1_000_000)
    try:
        raise RuntimeError("y" * 1_000_000)
    except RuntimeError:
        made.exc_info = sys.exc_info()
    line = formatter.format(made)
    assert len(line) < 40_000
    assert "(1000008 characters)" in line


def test_what_is_short_stays_whole():
    """An administrator could not see what a user ran."""
    argv = ["tar", "-C", "/srv", "x" * 900]
    assert json.loads(logs.JsonFormatter().format(record("run", argv=argv)))["argv"] == argv
