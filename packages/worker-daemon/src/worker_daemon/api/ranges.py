"""Spans of bytes, and the Range header (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

from worker_daemon import problems

_RANGE = re.compile(r"bytes=(\d{0,999})-(\d{0,999})", re.ASCII | re.IGNORECASE)


class Span(NamedTuple):
    """The bytes from offset `start` to before offset `end`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.end - self.start


def ranged(header: str | None, whole: Span) -> Span | None:
    """Return the part of `whole` that a Range header requests; None for all of it.

    Offsets in the header count from the start of `whole`, which is what the same request without
    the header would return. Several ranges and other units are ignored, as RFC 9110 allows. Raises
    Problem when the range contains no byte.
    """
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    first, last = match[1], match[2]
    if first == "":
        span = Span(max(whole.start, whole.end - int(last)), whole.end)
    else:
        end = whole.end if last == "" else min(whole.end, whole.start + int(last) + 1)
        span = Span(whole.start + int(first), end)
    if first and last and int(first) > int(last):
        return None
    if span.size <= 0:
        raise problems.Problem(
            "range_not_satisfiable",
            f"there are only {whole.size} bytes",
            headers={"Content-Range": f"bytes */{whole.size}"},
        )
    return span
