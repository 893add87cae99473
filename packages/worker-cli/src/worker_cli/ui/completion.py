"""Candidates for the last word of an unfinished command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from worker_cli import commands, errors, options
from worker_cli.commands import common
from worker_cli.options import Action, AnyOption, Option
from worker_cli.ui import humanize

FILES = (":file", "")
"""A line that makes the shell complete file names by itself."""
PROGRAMS = (":program", "")
"""The same for names of programs."""

_MAX_JOBS = 50

Candidates = Iterable[tuple[str, str]]


def candidates(line: Sequence[str]) -> Candidates:
    """Return the words that can complete the last word of `line`, each with its meaning.

    `line` contains the words after `worker`, up to the cursor; the last one may be empty.
    """
    *before, last = _joined(line) or [""]
    state = _State()
    for word in before:
        state.parse(word)
    name, equals, value = last.partition("=")
    if equals and state.options_allowed and isinstance(option := state.known.get(name), Option):
        return [
            (f"{name}={word}", about)
            for word, about in _values(option.completes, state)
            if word.startswith(value) and not word.startswith(":")
        ]
    expected = state.expected(last)
    return [(word, about) for word, about in expected if word.startswith((last, ":"))]


def _joined(line: Sequence[str]) -> list[str]:
    """Return the words as the user typed them: bash splits `--name=value` into three words."""
    words: list[str] = []
    for word in line:
        if word == "=" and words and words[-1].startswith("--"):
            words.append("")  # the value follows, as if after a space
        elif words and words[-1] == "" and len(words) > 1 and words[-2].startswith("--"):
            words[-1] = word
        else:
            words.append(word)
    return words


class _State:
    """What is known after parsing the first words of a command line."""

    def __init__(self) -> None:
        self.action: Action | None = None
        self.known: dict[str, AnyOption] = {}
        self.operands = 0
        self.options_allowed = True
        self.needs_value: Option[Any] | None = None
        self.words: list[str] = []
        self._learn(common.EVERYWHERE)

    def _learn(self, known: Iterable[AnyOption]) -> None:
        self.known |= {name: option for option in known for name in option.names}

    def parse(self, word: str) -> None:
        """Parse one more word."""
        self.words.append(word)
        if self.needs_value:
            self.needs_value = None
        elif word == "--" and self.options_allowed:
            self.options_allowed = False
        elif word.startswith("-") and word != "-" and self.options_allowed:
            option = self.known.get(word)
            self.needs_value = option if isinstance(option, Option) else None
        elif self.action is None:
            if word in commands.NAMES:
                self.action = commands.load(word)
                self._learn(self.action.options)
        else:
            self.operands += 1
            self.options_allowed &= not self.action.options_end_at_operand

    def expected(self, last: str) -> Candidates:
        """Return all candidates for the next word, whether or not they begin with `last`."""
        if self.needs_value:
            return _values(self.needs_value.completes, self)
        if last.startswith("-") and self.options_allowed:
            return [(name, option.about) for name, option in self.known.items()]
        if self.action is None:
            return _values(options.ACTION, self)
        completes = self.action.completes
        if not completes:
            return []
        return _values(completes[min(self.operands, len(completes) - 1)], self)


def _values(completes: options.Completes, state: _State) -> Candidates:
    match completes:
        case options.FILE:
            return [FILES]
        case options.PROGRAM:
            return [FILES] if state.operands else [PROGRAMS]
        case options.ACTION:
            return [(name, commands.load(name).summary) for name in commands.NAMES]
        case options.PROFILE:
            from worker_cli.settings import config

            return [(name, "") for name in config.profile_names()]
        case options.JOB | options.LIVE_JOB | options.ENDED_JOB:
            return [*_jobs(completes, state.words)]
        case _:
            return [(word, "") for word in completes]


def _jobs(which: options.Completes, line: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the user's newest jobs; nothing when the server does not answer."""
    from worker_cli.job import FINAL, LIVE

    states = {options.LIVE_JOB: LIVE, options.ENDED_JOB: FINAL}.get(str(which), ())
    try:
        with common.connect(_connection(line)) as client:
            for job in client.list(status=states, limit=_MAX_JOBS):
                yield job.id, f"{job.status}: {humanize.command_line(job.argv, 50)}"
    except errors.ClientError:
        return


def _connection(line: list[str]) -> options.Args:
    """Return the options on the line that choose the server and the user."""
    args = options.Args()
    known = {name: option for option in common.EVERYWHERE for name in option.names}
    for word, following in zip(line, [*line[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        option = known.get(name)
        if isinstance(option, Option):
            args.add(option, value if equals else following)
    return args
