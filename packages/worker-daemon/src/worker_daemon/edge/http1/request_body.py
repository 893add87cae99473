"""The body of an HTTP/1 request, with a known length or chunked (RFC 9112, 6 and 7).

A body of up to `IN_MEMORY` bytes is kept in memory, a longer one in a temporary file.
"""

from __future__ import annotations

import io
import tempfile
import threading
from typing import IO

from worker_daemon.edge.http1 import request_head

IN_MEMORY = 512 << 10  # bytes
_MAX_LINE = 4096  # bytes of a line between two chunks, and of all trailer fields together
_MAX_SIZE_DIGITS = 16  # hexadecimal digits of the size of a chunk
_HEX = b"0123456789ABCDEFabcdef"


class Counted:
    """A body of known length."""

    def __init__(self, length: int, slots: threading.BoundedSemaphore) -> None:
        self.file: IO[bytes] = io.BytesIO() if length <= IN_MEMORY else _Spooled(slots)
        self._left = length

    def take(self, data: bytes) -> int:
        """Store bytes; return how many belong to this body."""
        taken = len(data) if len(data) <= self._left else self._left
        self.file.write(data if taken == len(data) else data[:taken])
        self._left -= taken
        return taken

    @property
    def complete(self) -> bool:
        """Whether all of it has arrived."""
        return self._left == 0


class Chunked:
    """A chunked body. Chunk extensions and trailer fields are checked and ignored."""

    def __init__(self, slots: threading.BoundedSemaphore) -> None:
        self.file: IO[bytes] = _Spooled(slots)
        self.complete = False
        self._left = 0  # bytes of the current chunk that have not arrived yet
        self._line = bytearray()  # the part of a line that has arrived
        self._end_of_line = self._size
        self._trailer = 0  # bytes of trailer fields

    def take(self, data: bytes) -> int:
        """Parse and store bytes; return how many belong to this body. Raises Malformed."""
        at = 0
        while at < len(data) and not self.complete:
            if self._left:
                taken = self.file.write(data[at : at + self._left])
                self._left -= taken
                at += taken
            else:
                at = self._take_line(data, at)
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        """Store the part of a line that has arrived; return where it ends."""
        end = data.find(b"\n", at, at + _MAX_LINE)
        stop = end + 1 if end >= 0 else min(len(data), at + _MAX_LINE)
        self._line += data[at:stop]
        if len(self._line) > _MAX_LINE or (end < 0 and stop < len(data)):
            raise request_head.Malformed(f"more than {_MAX_LINE} bytes are between two chunks")
        if end >= 0:
            line, self._line = bytes(self._line), bytearray()
            if not line.endswith(b"\r\n") or line[:-2].translate(None, request_head.FIELD_VALUE):
                raise request_head.Malformed("a line between two chunks has control characters")
            self._end_of_line(line[:-2])
        return stop

    def _size(self, line: bytes) -> None:
        digits = line.partition(b";")[0]
        if not request_head.consists_of(digits, _HEX) or len(digits) > _MAX_SIZE_DIGITS:
            raise request_head.Malformed("the size of a chunk is not a hexadecimal number")
        self._left = int(digits, 16)
        self._end_of_line = self._end_of_chunk if self._left else self._trailer_field

    def _end_of_chunk(self, line: bytes) -> None:
        if line:
            raise request_head.Malformed("a chunk is longer than its size says")
        self._end_of_line = self._size

    def _trailer_field(self, line: bytes) -> None:
        self._trailer += len(line)
        if self._trailer > _MAX_LINE:
            raise request_head.Malformed(f"the trailer fields are longer than {_MAX_LINE} bytes")
        self.complete = not line


class _Spooled(tempfile.SpooledTemporaryFile[bytes]):
    """Occupies one of the slots while it is a file on the disk."""

    def __init__(self, slots: threading.BoundedSemaphore) -> None:
        super().__init__(max_size=IN_MEMORY)
        self._slots, self._has_slot = slots, False

    def rollover(self) -> None:
        if not self._has_slot:
            if not self._slots.acquire(blocking=False):
                raise request_head.Malformed(
                    "too many long bodies are received at the moment; try again soon", 503
                )
            self._has_slot = True
        super().rollover()

    def close(self) -> None:
        super().close()
        if self._has_slot:
            self._has_slot = False
            self._slots.release()
