"""The three streams: data to stdout, messages to stderr, and whether a person is looking."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}


class OutputError(OSError):
    """Data could not be written where it belongs; the reader has not left, which is another."""

    def __str__(self) -> str:
        why = "it is closed" if self.errno == errno.EBADF else self.strerror
        return f"cannot write to stdout: {why}"


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Raise OutputError for what goes wrong while data is written; BrokenPipeError stays."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def say(text: str) -> None:
    """Write a line of data to stdout."""
    with writing():
        sys.stdout.write(text + "\n")


def flush() -> None:
    """Have written what `say` has been given."""
    with writing():
        sys.stdout.flush()


class _Last:
    """The last line of a person's terminal, as far as it is to be written over."""

    text = ""


def note(text: str) -> None:
    """Write a message to stderr; what it quotes cannot do anything to the terminal."""
    from worker_cli.ui import humanize

    shown = "\n".join(map(humanize.clean, text.split("\n")))
    if _Last.text:
        sys.stderr.write(f"\r\x1b[Kworker: {shown}\n{_Last.text}")
        sys.stderr.flush()
    else:
        sys.stderr.write(f"worker: {shown}\n")


def overwrite(text: str) -> None:
    """Write to stderr what the next text takes the place of; messages are written above it."""
    _Last.text = text
    sys.stderr.write(f"\r{text}\x1b[K")
    sys.stderr.flush()


def person(stream: TextIO) -> bool:
    """Whether somebody looks at the stream: it is a terminal."""
    return stream.isatty()


def can_overwrite(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody looks at the stream on a terminal that can take a line back."""
    return person(stream) and environ.get("TERM") not in (None, "", "dumb")


def width(stream: TextIO) -> int | None:
    """Return how many columns fit, None where nobody looks and lines may be of any length."""
    return shutil.get_terminal_size().columns if person(stream) else None


def colourful(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to use colour: on a terminal that can, unless NO_COLOR is set (no-color.org)."""
    return person(stream) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def coloured(text: str, colour: str | None) -> str:
    """Return a text for stdout in a colour, if there is to be any."""
    if colour is None or not colourful(sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"
