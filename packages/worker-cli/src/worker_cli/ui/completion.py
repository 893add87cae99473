"""What the last word of an unfinished command line could be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from worker_cli import commands, errors, options
from worker_cli.commands import common
from worker_cli.options import Action, AnyOption, Option
from worker_cli.ui import humanize

FILES = (":file", "")
"""A line that tells the shell to complete the names of files, as it can best do itself."""
PROGRAMS = (":program", "")
"""The same for the names of programs."""

_MOST_JOBS = 50

Candidates = Iterable[tuple[str, str]]


def candidates(line: Sequence[str]) -> Candidates:
    """Return words that begin as the last of `line` does, and what each means.

    `line` is what stands after `worker`, up to the cursor; the last word may be empty.
    """
    *before, last = _joined(line) or [""]
    state = _State()
    for word in before:
        state.take(word)
    name, equals, value = last.partition("=")
    if equals and state.options_allowed and isinstance(option := state.known.get(name), Option):
        found = _values(option.completes, state)
        fitting = [each for each in found if each[0].startswith(value) and each[0][:1] != ":"]
        return [(f"{name}={word}", about) for word, about in fitting]
    return [each for each in state.expected(last) if each[0].startswith((last, ":"))]


def _joined(line: Sequence[str]) -> list[str]:
    """Undo what bash does to words with an equals sign, which it takes for three."""
    found: list[str] = []
    for word in line:
        if word == "=" and found and found[-1].startswith("--"):
            found.append("")  # the value follows, as if after a space
        elif found and found[-1] == "" and len(found) > 1 and found[-2].startswith("--"):
            found[-1] = word
        else:
            found.append(word)
    return found


class _State:
    """How far a command line has been parse."""

    def __init__(self) -> None:
        self.action: Action | None = None
        self.known: dict[str, AnyOption] = {}
        self.operands = 0
        self.options_allowed = True
        self.awaited: Option[Any] | None = None
        self.words: list[str] = []
        self._learn(common.EVERYWHERE)

    def _learn(self, known: Iterable[AnyOption]) -> None:
        self.known |= {name: option for option in known for name in option.names}

    def take(self, word: str) -> None:
        """Understand one more whole word."""
        self.words.append(word)
        if self.awaited:
            self.awaited = None
        elif word == "--" and self.options_allowed:
            self.options_allowed = False
        elif word.startswith("-") and word != "-" and self.options_allowed:
            option = self.known.get(word)
            self.awaited = option if isinstance(option, Option) else None
        elif self.action is None:
            if word in commands.NAMES:
                self.action = commands.load(word)
                self._learn(self.action.options)
        else:
            self.operands += 1
            self.options_allowed &= not self.action.options_end_at_operand

    def expected(self, last: str) -> Candidates:
        """Return what may stand next, whether or not `last` begins so."""
        if self.awaited:
            return _values(self.awaited.completes, self)
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
    """Yield the user's newest jobs; nothing when the server cannot be asked."""
    from worker_cli.job import FINAL, LIVE

    states = {options.LIVE_JOB: LIVE, options.ENDED_JOB: FINAL}.get(str(which), ())
    try:
        with common.connect(_connection(line)) as client:
            for job in client.list(status=states, limit=_MOST_JOBS):
                yield job.id, f"{job.status}: {humanize.command_line(job.argv, 50)}"
    except errors.ClientError:
        return


def _connection(line: list[str]) -> options.Args:
    """Return the options on the line that say which server is meant; others are passed over."""
    args = options.Args()
    known = {name: option for option in common.EVERYWHERE for name in option.names}
    for word, following in zip(line, [*line[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        option = known.get(name)
        if isinstance(option, Option):
            args.add(option, value if equals else following)
    return args
