"""How a command line is parsed."""

from __future__ import annotations

import pytest
from worker_cli import errors, options, parsing
from worker_cli.options import Flag, Option

WAIT = Flag("-w", "--wait", about="")
QUIET = Flag("-q", "--quiet", about="")
NAME = Option("--name", metavar="NAME", about="", parse=str)
COUNT = Option("-n", "--count", metavar="N", about="", parse=parsing.count)
ALL = (WAIT, QUIET, NAME, COUNT)


def parse(*words: str, ends: bool = False) -> options.Args:
    return options.parse(words, ALL, options_end_at_operand=ends)


@pytest.mark.parametrize(
    ("words", "operands"),
    [
        (("ls", "-la"), ["ls", "-la"]),
        (("--wait", "ls", "--wait"), ["ls", "--wait"]),
        (("--", "-x"), ["-x"]),
        (("--", "ls", "--", "-a"), ["ls", "--", "-a"]),
        (("ls", "--", "--", "-a"), ["ls", "--", "--", "-a"]),
        (("--name", "--", "ls"), ["ls"]),
        (("-",), ["-"]),
        (("", "-x"), ["", "-x"]),
    ],
)
def test_a_command_keeps_its_own_options(words: tuple[str, ...], operands: list[str]) -> None:
    """`worker run ls -la` would take -l and -a as its own options, or lose a -- of the job."""
    assert parse(*words, ends=True).operands == operands


def test_options_and_operands_may_be_mixed() -> None:
    """`worker kill ID --now` would kill a job called --now."""
    args = parse("a", "--wait", "b", "--", "--quiet")
    assert args.operands == ["a", "b", "--quiet"]
    assert args.has(WAIT)
    assert not args.has(QUIET)


@pytest.mark.parametrize(
    "words", [("-n5",), ("-n", "5"), ("--count=5",), ("--count", "5"), ("-wqn5",), ("-qn", "5")]
)
def test_forms_of_a_value(words: tuple[str, ...]) -> None:
    """People write options in all the ways that other programs accept."""
    assert parse(*words).get(COUNT) == 5


def test_the_last_of_several_counts() -> None:
    """An option that is added at the end of a line would be ignored."""
    args = parse("--name", "a", "--name=b")
    assert args.get(NAME) == "b"
    assert args.all(NAME) == ["a", "b"]


def test_values_may_look_like_anything() -> None:
    """A value that begins with a dash, holds an equals sign or is empty could not be given."""
    assert parse("--name=-x=y").get(NAME) == "-x=y"
    assert parse("--name=").get(NAME) == ""
    assert parse("--name", "--wait").get(NAME) == "--wait"


@pytest.mark.parametrize("word", ["--nam", "--Name", "-x", "---", "--=5", "-wx", "-w=1"])
def test_unknown_options_are_refused(word: str) -> None:
    """A misspelt option would be ignored."""
    with pytest.raises(errors.UsageError, match="unknown option"):
        parse(word)
