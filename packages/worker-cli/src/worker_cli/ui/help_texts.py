"""The help texts, generated from the declarations of the actions."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from worker_cli import commands
from worker_cli.options import Action

_TITLE = "worker: run commands on a server and read their output"
_TOUR = (
    ("worker login https://server:8443 --cacert ca.pem", "save server and credentials"),
    ("worker run echo hello", "create a job; prints its id"),
    ("worker status ID", "print its status and exit code"),
    ("worker out ID", "print its output"),
    ("worker run --wait make -j8", "follow the output and exit as the job does"),
    ("worker list --status running", "list your running jobs"),
    ("worker kill ID", "kill a job and everything it started"),
)
_CLOSING = (
    "An ID may be shortened to its first characters; @last is your newest job.\n"
    "worker ACTION --help prints the options and examples of an action."
)


def overview() -> str:
    """Return what `worker help` prints."""
    parts = [_TITLE, f"usage: {usage(None)}"]
    for title, names in commands.GROUPS:
        rows = [
            (f"{name} {_operands(name)}".rstrip(), commands.load(name).summary) for name in names
        ]
        parts.append(f"{title}\n{_listed(rows)}")
    parts += [f"Examples\n{_examples(_TOUR)}", _CLOSING]
    return "\n\n".join(parts)


def of_action(action: Action) -> str:
    """Return what `worker ACTION --help` prints."""
    parts = [
        f"worker {action.name}: {action.summary}",
        f"usage: {usage(action)}",
        _wrapped(action.about),
    ]
    titled = (("Options", action.options), ("Options of every action", commands.EVERYWHERE))
    for title, options_ in titled:
        rows = [(option_usage(option.names, option.metavar), option.about) for option in options_]
        parts += [f"{title}\n{_listed(rows)}"] if rows else []
    parts += [f"Examples\n{_examples(action.examples)}"] if action.examples else []
    return "\n\n".join(parts)


def usage(action: Action | None) -> str:
    """Return "worker ACTION [OPTION …] …", for one action or for the whole command."""
    if action is None:
        return "worker ACTION [OPTION …] …"
    options = "[OPTION …] " if action.options else ""
    return f"worker {action.name} {options}{action.operands}".rstrip()


def option_usage(names: Sequence[str], metavar: str) -> str:
    """Return "-n, --limit N"."""
    return f"{', '.join(names)} {metavar}".rstrip()


def _operands(name: str) -> str:
    return commands.load(name).operands


def _width() -> int:
    return max(40, min(shutil.get_terminal_size().columns, 100))


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(paragraph, _width()) for paragraph in text.split("\n\n"))


def _listed(rows: Iterable[tuple[str, str]], column: int = 26) -> str:
    lines = []
    for name, about in rows:
        indent = " " * (column + 2)
        text = textwrap.fill(about, _width(), initial_indent=indent, subsequent_indent=indent)
        if len(name) < column - 1:
            lines.append(f"  {name:{column}}{text[column + 2 :]}")
        else:
            lines.append(f"  {name}\n{text}")
    return "\n".join(lines)


def _examples(examples: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {command}\n      {about}" for command, about in examples)
