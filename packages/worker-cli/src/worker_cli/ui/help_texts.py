"""The help texts, made from the declarations of the actions."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from worker_cli import commands
from worker_cli.options import Action

_TITLE = "worker: run commands on a server and read their output"
_TOUR = (
    ("worker login https://server:8443 --cacert ca.pem", "say once where, and who you are"),
    ("worker run echo hello", "create a job; prints its id"),
    ("worker status ID", "what became of it"),
    ("worker out ID", "its output, byte for byte"),
    ("worker run --wait make -j8", "follow the output and exit as the job does"),
    ("worker list --status running", "your jobs that run"),
    ("worker kill ID", "stop a job and everything it started"),
)
_CLOSING = (
    "An ID may be its first characters, or @last for your newest job.\n"
    "worker ACTION --help tells the options and examples of an action."
)


def overview() -> str:
    """Return what `worker help` prints."""
    parts = [_TITLE, "usage: worker ACTION [OPTION …] …"]
    for title, names in commands.GROUPS:
        rows = [
            (f"{name} {_operands(name)}".rstrip(), commands.load(name).summary) for name in names
        ]
        parts.append(f"{title}\n{_listed(rows)}")
    parts += [f"Examples\n{_examples(_TOUR)}", _CLOSING]
    return "\n\n".join(parts)


def of_action(action: Action) -> str:
    """Return what `worker ACTION --help` prints."""
    options = "[OPTION …] " if action.options else ""
    parts = [
        f"worker {action.name}: {action.summary}",
        f"usage: worker {action.name} {options}{action.operands}".rstrip(),
        _wrapped(action.about),
    ]
    titled = (("Options", action.options), ("Options of every action", commands.EVERYWHERE))
    for title, options_ in titled:
        rows = [(usage(each.names, each.metavar), each.about) for each in options_]
        parts += [f"{title}\n{_listed(rows)}"] if rows else []
    parts += [f"Examples\n{_examples(action.examples)}"] if action.examples else []
    return "\n\n".join(parts)


def usage(names: Sequence[str], metavar: str) -> str:
    """Return "-n, --limit N" as it is shown in help texts."""
    return f"{', '.join(names)} {metavar}".rstrip()


def _operands(name: str) -> str:
    return commands.load(name).operands


def _width() -> int:
    return max(40, min(shutil.get_terminal_size().columns, 100))


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(each, _width()) for each in text.split("\n\n"))


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
