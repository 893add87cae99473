"""Durations, sizes, counts and pairs: how they are parsed and shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_cli import parsing
from worker_cli.net import problem_documents
from worker_cli.ui import humanize, terminal


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parsing.duration, "90", 90.0),
        (parsing.duration, "1.5", 1.5),
        (parsing.duration, "0", 0.0),
        (parsing.duration, "10m", 600.0),
        (parsing.duration, "1h30m", 5400.0),
        (parsing.duration, "2d", 172800.0),
        (parsing.duration, "500ms", 0.5),
        (parsing.duration, "1.5h", 5400.0),
        (parsing.size, "4096", 4096),
        (parsing.size, "64k", 65536),
        (parsing.size, "1.5G", 1610612736),
        (parsing.size, "10MiB", 10485760),
        (parsing.size, "0", 0),
        (parsing.size, "4194304T", 1 << 62),
        (parsing.count, "0", 0),
        (parsing.count, "007", 7),
        (parsing.count_limit, "1", 1),
        (parsing.number_limit, "0.5", 0.5),
        (parsing.size_limit, "1", 1),
        (parsing.size_limit, "0.5k", 512),
        (parsing.pair, "K=V=W", ("K", "V=W")),
        (parsing.pair, "K=", ("K", "")),
    ],
)
def test_good_values(parse: Callable[[str], object], text: str, value: object) -> None:
    """A value would have another meaning than the user expects."""
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *[
            (parsing.duration, text)
            for text in ("", "-1", "1x", "m", "1m2", "1e3", "٣", "nan", " 1")
        ],
        *[(parsing.size, text) for text in ("", "-1", "k", "1kk", "1x", "1 k", "4194305T")],
        (parsing.size, "9" * 400),
        *[(parsing.count, text) for text in ("", "-1", "1.0", "x", "٣", "9" * 16)],
        *[(parsing.pair, text) for text in ("", "K", "=V")],
    ],
)
def test_bad_values(parse: Callable[[str], object], text: str) -> None:
    """A typing mistake would be accepted as a value."""
    with pytest.raises(ValueError, match="must"):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parsing.count, "-1", "from 0 to 999999999999999"),
        (parsing.count, "9" * 16, "from 0 to 999999999999999"),
        (parsing.count_limit, "0", "from 1 to 999999999999999"),
        (parsing.number_limit, "-1", "above 0 and up to 999999999"),
        (parsing.number_limit, "0.0", "above 0 and up to 999999999"),
        (parsing.number_limit, "9" * 10, "above 0 and up to 999999999"),
        (parsing.size, "-1", "from 0 up"),
        (parsing.size, "9" * 30, "at most 4 EiB"),
        (parsing.size_limit, "-1", "from 1 up"),
        (parsing.size_limit, "0M", "from 1 up"),
        (parsing.size_limit, "0.9", "from 1 up"),
        (parsing.duration, "-1", "from 0 up"),
        (parsing.duration, "9" * 30, "less than a hundred years"),
    ],
)
def test_a_number_out_of_range_names_the_range(
    parse: Callable[[str], object], text: str, message: str
) -> None:
    """A whole number would be refused for not being one."""
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.00s"),
        (0.0004, "0.00s"),
        (0.123, "0.12s"),
        (1.25, "1.2s"),
        (9.99, "10s"),
        (12.3, "12s"),
        (59.6, "1m00s"),
        (200, "3m20s"),
        (3599.7, "1h00m"),
        (7500, "2h05m"),
        (273600, "3d4h"),
    ],
)
def test_durations_are_readable(seconds: float, shown: str) -> None:
    """A user would have to divide by 3600."""
    assert humanize.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-5, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (400000, "4d")]
)
def test_ages_are_readable(seconds: int, shown: str) -> None:
    """The same; and a clock that is behind would show a negative age."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert humanize.age(now - timedelta(seconds=seconds), now) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 42, "4.0 TiB")]
)
def test_sizes_are_readable(count: int, shown: str) -> None:
    """The same for bytes."""
    assert humanize.size(count) == shown


def test_names_cannot_take_over_the_terminal() -> None:
    """A job's name could clear the screen, or hide what follows it."""
    assert humanize.clean("a\x1b[2Jb\n\u202ec\udcff\x07") == r"a\x1b[2Jb\n\u202ec\xff\x07"


@given(st.text(alphabet=st.characters()))
def test_clean_text_is_printable(text: str) -> None:
    """The same for every other character."""
    cleaned = humanize.clean(text)
    assert cleaned.isprintable()
    assert cleaned == text or not text.isprintable()


@given(st.text(), st.integers(0, 30))
def test_cut_text_fits(text: str, most: int) -> None:
    """A table would be wider than the terminal."""
    text = humanize.clean(text)
    cut = humanize.truncate(text, most)
    assert humanize.columns(cut) <= max(most, 0)
    assert cut == text or humanize.columns(text) > most


def test_truncation_does_not_read_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """`worker list` would take minutes for a job with megabytes of arguments."""
    looked: list[str] = []
    monkeypatch.setattr(humanize, "_columns", lambda each: looked.append(each) or 1)
    assert humanize.truncate("ü" * 10_000, 30) == "ü" * 29 + "…"
    assert humanize.command_line(["echo", *["ü"] * 10_000], 30).startswith("echo 'ü' ")
    assert len(looked) < 100


@given(st.lists(st.text(), max_size=5), st.integers(1, 30))
def test_a_command_line_is_cut_as_if_it_were_whole(argv: list[str], most: int) -> None:
    """The table would show a long command wrongly, or hide that it is truncated."""
    assert humanize.command_line(argv, most) == humanize.truncate(humanize.command_line(argv), most)


def test_command_lines_can_be_typed_again() -> None:
    """A command from the list could not be pasted into a shell."""
    assert humanize.command_line(["echo", "two words", "it's"]) == """echo 'two words' 'it'"'"'s'"""


def test_no_message_obeys_whom_it_quotes(capsys):
    """Another user's reason for a kill could contain escape sequences for the terminal."""
    message = problem_documents._message({"detail": "killed: evil\nline\x1b[31m\u202e"})
    assert message == "killed: evil\\nline\\x1b[31m\\u202e"
    terminal.note("two lines:\nof \x1b[31mone")
    assert capsys.readouterr().err == "worker: two lines:\nof \\x1b[31mone\n"
