"""stdout for data, stderr for messages, and whether each of them is a terminal."""

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
    """Data could not be written to stdout, for another reason than a closed pipe."""

    def __str__(self) -> str:
        why = "it is closed" if self.errno == errno.EBADF else self.strerror
        return f"cannot write to stdout: {why}"


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn an OSError into OutputError; BrokenPipeError stays as it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def print_line(text: str) -> None:
    """Write a line of data to stdout."""
    with writing():
        sys.stdout.write(text + "\n")


def flush() -> None:
    """Flush what `print_line` wrote."""
    with writing():
        sys.stdout.flush()


class _StatusLine:
    """The last line of the terminal, if `overwrite` wrote it."""

    text = ""


def note(text: str) -> None:
    """Write a message to stderr; control characters in it are escaped."""
    from worker_cli.ui import humanize

    shown = "\n".join(map(humanize.clean, text.split("\n")))
    if _StatusLine.text:
        sys.stderr.write(f"\r\x1b[Kworker: {shown}\n{_StatusLine.text}")
        sys.stderr.flush()
    else:
        sys.stderr.write(f"worker: {shown}\n")


def overwrite(text: str) -> None:
    """Write a line to stderr that the next call replaces; `note` writes above it."""
    _StatusLine.text = text
    sys.stderr.write(f"\r{text}\x1b[K")
    sys.stderr.flush()


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal, so that a person reads it."""
    return stream.isatty()


def can_overwrite(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream is a terminal on which a line can be replaced."""
    return is_terminal(stream) and environ.get("TERM") not in (None, "", "dumb")


def width(stream: TextIO) -> int | None:
    """Return the width of a terminal in columns, None for a stream that is not a terminal."""
    return shutil.get_terminal_size().columns if is_terminal(stream) else None


def colourful(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether to use colour: on a capable terminal without NO_COLOR (no-color.org)."""
    return is_terminal(stream) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def coloured(text: str, colour: str | None) -> str:
    """Return a text for stdout in a colour, if stdout uses colour."""
    if colour is None or not colourful(sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"
