"""Where output goes: byte for byte, but binary never to a terminal that was not asked for it."""

from __future__ import annotations

from typing import BinaryIO

from worker_cli.ui import terminal


class BinaryRefused(Exception):
    """A terminal was about to get binary data."""


class Sink:
    """A stream that takes a job's output as it comes, whole chunks at once."""

    def __init__(self, stream: BinaryIO, *, allow_binary: bool) -> None:
        self._stream = stream
        self._guarded = not allow_binary and stream.isatty()

    def write(self, chunk: bytes) -> None:
        """Write and flush; raise BinaryRefused in place of showing a NUL byte on a terminal."""
        if self._guarded and b"\0" in chunk:
            raise BinaryRefused
        with terminal.writing():
            self._stream.write(chunk)
            self._stream.flush()
