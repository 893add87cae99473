"""Reading the files that jobs write: by byte offset, from the end by lines, as they grow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 16  # bytes of one read

_LARGEST = 1 << 62  # a file ends before this offset, and the kernel counts little further


@dataclass(frozen=True)
class OutputInfo:
    """What is kept of a stream: bytes `start` to `size`; `final` once it cannot grow any more."""

    size: int
    start: int
    path: Path
    final: bool


def size(path: str) -> int:
    """Return the size of a spool file; one that does not exist yet is empty."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def read(path: str, offset: int, length: int) -> bytes:
    """Return up to `length` bytes from `offset`."""
    if offset > _LARGEST:
        return b""
    try:
        with open(path, "rb", buffering=0) as file:
            parts = []
            while length > 0:
                part = os.pread(file.fileno(), min(length, 1 << 20), offset)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                length -= len(part)
            return b"".join(parts)
    except FileNotFoundError:
        return b""


def tail_offset(path: str, start: int, end: int, lines: int) -> int:
    """Return where the last `lines` lines between two offsets begin.

    A last line without a newline counts as one. Reads backwards, in blocks.
    """
    if lines <= 0 or end <= start:
        return end
    at = end
    wanted = lines + 1  # the newline that ends the line before
    if read(path, end - 1, 1) != b"\n":
        wanted -= 1
    while at > start:
        begin = max(start, at - CHUNK)
        block = read(path, begin, at - begin)
        found = block.count(b"\n")
        if found >= wanted:
            return begin + _nth_from_end(block, wanted) + 1
        wanted -= found
        at = begin
    return start


def _nth_from_end(block: bytes, count: int) -> int:
    at = len(block)
    for _ in range(count):
        at = block.rindex(b"\n", 0, at)
    return at
