"""Reads the files that jobs write: by byte offset, and from the end by lines."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 16  # bytes of one read
LONGEST_TAIL = 256 << 20
"""The most bytes that are searched for the beginning of a tail."""

_LARGEST = 1 << 62  # no file is larger; much larger offsets would be refused by the kernel


@dataclass(frozen=True)
class OutputInfo:
    """What is kept of a stream: the bytes from `start` to `size`. If `final`, it cannot grow."""

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


def tail_offset(
    path: str, start: int, end: int, lines: int, on_block: Callable[[], None] = lambda: None
) -> int:
    """Return the offset of the last `lines` lines between two offsets.

    It is LONGEST_TAIL before `end` at most. A last line without a newline counts. The search reads
    backwards in blocks and skips holes; `on_block` is called before each block, and an exception
    that it raises ends the search.
    """
    if lines <= 0 or end <= start:
        return end
    least = max(start, end - LONGEST_TAIL)
    try:
        with open(path, "rb", buffering=0) as file:
            return _begin_of_tail(file.fileno(), least, end, lines, on_block)
    except FileNotFoundError:
        return end


def _begin_of_tail(
    descriptor: int, least: int, end: int, lines: int, on_block: Callable[[], None]
) -> int:
    at = end
    wanted = lines + 1  # the newline that ends the line before
    if os.pread(descriptor, 1, end - 1) != b"\n":
        wanted -= 1
    while wanted <= at - least:  # otherwise there cannot be so many newlines
        begin = max(least, at - CHUNK)
        on_block()
        hole = _is_hole(descriptor, begin, at)
        block = b"" if hole else os.pread(descriptor, at - begin, begin)
        found = block.count(b"\n")
        if found >= wanted:
            return begin + _nth_from_end(block, wanted) + 1
        wanted -= found
        at = begin
    return least


def _is_hole(descriptor: int, begin: int, end: int) -> bool:
    """Return whether a part of a file is a hole: never written, or deleted."""
    try:
        return os.lseek(descriptor, begin, os.SEEK_DATA) >= end
    except OSError as error:
        return error.errno == errno.ENXIO  # no data after `begin`


def _nth_from_end(block: bytes, count: int) -> int:
    at = len(block)
    for _ in range(count):
        at = block.rindex(b"\n", 0, at)
    return at
