"""Options, operands and actions of the command line, declared once.

The same declarations parse the command line, make the help text, complete words in a shell and
fill the manual page. argparse is not used because it cannot promise what `run` needs: everything
from the first operand on belongs to the job, byte for byte, a second `--` included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from worker_cli import errors

Value = TypeVar("Value")

JOB, LIVE_JOB, ENDED_JOB = "job", "live job", "ended job"
FILE, PROGRAM, PROFILE, ACTION = "file", "program", "profile", "action"
Completes = str | Sequence[str]
"""What a value or an operand can be completed with: one of the above, or a list of words."""


class Flag:
    """An option without a value."""

    def __init__(self, *names: str, about: str) -> None:
        self.names, self.about = names, about
        self.metavar = ""
        self.completes: Completes = ()


class Option(Generic[Value]):
    """An option with a value; `parse` makes it of its text, and raises ValueError for a bad one."""

    def __init__(
        self,
        *names: str,
        metavar: str,
        about: str,
        parse: Callable[[str], Value],
        completes: Completes = (),
    ) -> None:
        self.names, self.metavar, self.about = names, metavar, about
        self.parse, self.completes = parse, completes


AnyOption = Flag | Option[Any]


class Args:
    """What was given on a command line."""

    def __init__(self, operands: Sequence[str] = ()) -> None:
        self.operands = list(operands)
        self._given: dict[AnyOption, list[Any]] = {}

    def add(self, option: AnyOption, value: Any) -> None:
        """Note that an option was given."""
        self._given.setdefault(option, []).append(value)

    def has(self, option: AnyOption) -> bool:
        """Whether an option was given."""
        return option in self._given

    def all(self, option: Option[Value]) -> list[Value]:
        """Return every value of an option, in order."""
        return self._given.get(option, [])

    def get(self, option: Option[Value]) -> Value | None:
        """Return the value of an option, the last where it was given more than once."""
        values = self.all(option)
        return values[-1] if values else None


class Action:
    """A verb of the command line: what it is called, takes and does."""

    def __init__(
        self,
        name: str,
        run: Callable[[Args], int],
        *,
        summary: str,
        about: str,
        operands: str = "",
        least: int = 0,
        most: int | None = 0,
        options: Sequence[AnyOption] = (),
        examples: Sequence[tuple[str, str]] = (),
        completes: Sequence[Completes] = (),
        options_end_at_operand: bool = False,
    ) -> None:
        self.name, self.run = name, run
        self.summary, self.about = summary, about
        self.operands, self.least, self.most = operands, least, most
        self.options = tuple(options)
        self.examples = tuple(examples)
        self.completes = completes
        """For each operand in turn; the last is for those that follow, too."""
        self.options_end_at_operand = options_end_at_operand

    def check(self, args: Args) -> None:
        """Raise UsageError when there are too few or too many operands."""
        count = len(args.operands)
        if not count and self.least and self.most is None:
            raise errors.UsageError(
                f"{self.name} needs the id of a job; none was given (did a list find nothing?)"
            )
        if count < self.least:
            raise errors.UsageError(f"{self.name} needs {self.operands}")
        if self.most is not None and count > self.most:
            extra = " ".join(args.operands[self.most :])
            takes = f"only {self.operands}" if self.operands else "no operand"
            raise errors.UsageError(f"{self.name} takes {takes}; too much: {extra}")


def parse(
    words: Sequence[str], options: Sequence[AnyOption], *, options_end_at_operand: bool
) -> Args:
    """Take the options and operands from `words`; raise UsageError for what is not known."""
    known = {name: option for option in options for name in option.names}
    args, left = Args(), deque(words)
    while left:
        word = left.popleft()
        if word == "--":
            break
        if word.startswith("--"):
            _long(word, known, left, args)
        elif word.startswith("-") and word != "-":
            _short(word, known, left, args)
        else:
            args.operands.append(word)
            if options_end_at_operand:
                break
    args.operands += left
    return args


_Known = dict[str, AnyOption]


def _long(word: str, known: _Known, left: deque[str], args: Args) -> None:
    name, equals, text = word.partition("=")
    option = _find(name, known)
    if isinstance(option, Option):
        args.add(option, _value(option, name, text if equals else None, left))
    elif equals:
        raise errors.UsageError(f"{name} takes no value")
    else:
        args.add(option, True)


def _short(word: str, known: _Known, left: deque[str], args: Args) -> None:
    """Take `-f`, `-n5`, `-n 5`, and several flags in one word."""
    for at in range(1, len(word)):
        name = f"-{word[at]}"
        if name not in known and len(word) > 2:
            raise _unknown(word, known)
        option = _find(name, known)
        if isinstance(option, Option):
            args.add(option, _value(option, name, word[at + 1 :] or None, left))
            return
        args.add(option, True)


def _find(name: str, known: _Known) -> AnyOption:
    if name not in known:
        raise _unknown(name, known)
    return known[name]


def _unknown(name: str, known: _Known) -> errors.UsageError:
    return errors.UsageError(f"unknown option {name}{did_you_mean(name, list(known))}")


def _value(option: Option[Value], name: str, text: str | None, left: deque[str]) -> Value:
    if text is None:
        if not left:
            raise errors.UsageError(f"{name} needs a value: {name} {option.metavar}")
        text = left.popleft()
    try:
        return option.parse(text)
    except ValueError as error:
        raise errors.UsageError(f"{name} {text}: {error}") from None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that suggests what was meant, empty when nothing is near."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    # `--silent` for a short `-s` is no near miss.
    likely = near or [each for each in known if len(word) > 2 and each.startswith(word)][:1]
    return f"; did you mean {likely[0]}?" if likely else ""
