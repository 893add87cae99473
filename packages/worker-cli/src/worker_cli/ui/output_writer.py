"""Write a job's output byte for byte, but no binary data to a terminal unless it is allowed."""

from __future__ import annotations

from typing import BinaryIO

from worker_cli.ui import terminal


class BinaryOnTerminal(Exception):
    """Binary data was about to be written to a terminal."""


class OutputWriter:
    """Writes chunks of a job's output to a stream."""

    def __init__(self, stream: BinaryIO, *, allow_binary: bool) -> None:
        self._stream = stream
        self._text_only = not allow_binary and stream.isatty()

    def write(self, chunk: bytes) -> None:
        """Write and flush; raise BinaryOnTerminal if it contains a NUL byte for a terminal."""
        if self._text_only and b"\0" in chunk:
            raise BinaryOnTerminal
        with terminal.writing():
            self._stream.write(chunk)
            self._stream.flush()
