"""Options, operands and actions of the command line, and the parser for them.

Each is declared once. The parser, the help texts, the completion in shells and the manual page
all use these declarations. argparse is not used because of `run`: every word from the first operand
on belongs to the job and must stay unchanged, including a second `--`. argparse cannot do that.
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
"""What completes a value or an operand: one of the above, or a list of words."""


class Flag:
    """An option without a value."""

    def __init__(self, *names: str, about: str) -> None:
        self.names, self.about = names, about
        self.metavar = ""
        self.completes: Completes = ()


class Option(Generic[Value]):
    """An option with a value; `parse` converts its text, or raises ValueError."""

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
    """The options and operands of a command line."""

    def __init__(self, operands: Sequence[str] = ()) -> None:
        self.operands = list(operands)
        self._values: dict[AnyOption, list[Any]] = {}

    def add(self, option: AnyOption, value: Any) -> None:
        """Add an option with its value."""
        self._values.setdefault(option, []).append(value)

    def has(self, option: AnyOption) -> bool:
        """Return whether an option was given."""
        return option in self._values

    def all(self, option: Option[Value]) -> list[Value]:
        """Return all values of an option, in order."""
        return self._values.get(option, [])

    def get(self, option: Option[Value]) -> Value | None:
        """Return the value of an option, the last one if it was given more than once."""
        values = self.all(option)
        return values[-1] if values else None


class Action:
    """An action of the command line, such as `run`: its name, options, operands and function."""

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
        """What completes each operand; the last entry is used for all further operands."""
        self.options_end_at_operand = options_end_at_operand

    def check(self, args: Args) -> None:
        """Raise UsageError when there are too few or too many operands."""
        count = len(args.operands)
        if not count and self.least and self.most is None:
            raise errors.UsageError(
                f"{self.name} needs the id of a job; none was given (did `worker list` find none?)"
            )
        if count < self.least:
            raise errors.UsageError(f"{self.name} needs {self.operands}")
        if self.most is not None and count > self.most:
            extra = " ".join(args.operands[self.most :])
            takes = f"only {self.operands}" if self.operands else "no operand"
            raise errors.UsageError(f"{self.name} takes {takes}; unexpected: {extra}")


def parse(
    words: Sequence[str], options: Sequence[AnyOption], *, options_end_at_operand: bool
) -> Args:
    """Return the options and operands in `words`; raise UsageError for an unknown option."""
    known = {name: option for option in options for name in option.names}
    args, remaining = Args(), deque(words)
    while remaining:
        word = remaining.popleft()
        if word == "--":
            break
        if word.startswith("--"):
            _parse_long(word, known, remaining, args)
        elif word.startswith("-") and word != "-":
            _parse_short(word, known, remaining, args)
        else:
            args.operands.append(word)
            if options_end_at_operand:
                break
    args.operands += remaining
    return args


_Known = dict[str, AnyOption]


def _parse_long(word: str, known: _Known, remaining: deque[str], args: Args) -> None:
    name, equals, text = word.partition("=")
    option = _find(name, known)
    if isinstance(option, Option):
        args.add(option, _value(option, name, text if equals else None, remaining))
    elif equals:
        raise errors.UsageError(f"{name} takes no value")
    else:
        args.add(option, True)


def _parse_short(word: str, known: _Known, remaining: deque[str], args: Args) -> None:
    """Parse `-f`, `-n5`, `-n 5`, and several flags in one word."""
    for index in range(1, len(word)):
        name = f"-{word[index]}"
        if name not in known and len(word) > 2:
            raise _unknown(word, known)
        option = _find(name, known)
        if isinstance(option, Option):
            args.add(option, _value(option, name, word[index + 1 :] or None, remaining))
            return
        args.add(option, True)


def _find(name: str, known: _Known) -> AnyOption:
    if name not in known:
        raise _unknown(name, known)
    return known[name]


def _unknown(name: str, known: _Known) -> errors.UsageError:
    from worker_cli import suggestions

    return errors.UsageError(f"unknown option {name}{suggestions.option(name, list(known))}")


def _value(option: Option[Value], name: str, text: str | None, remaining: deque[str]) -> Value:
    if text is None:
        if not remaining:
            raise errors.UsageError(f"{name} needs a value: {name} {option.metavar}")
        text = remaining.popleft()
    try:
        return option.parse(text)
    except ValueError as error:
        raise errors.UsageError(f"{name} {text}: {error}") from None
