"""Values as people read them: durations, ages, sizes, command lines; safe to show on a terminal."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def clean(text: str) -> str:
    """Return a text in which nothing moves the cursor, changes colours or turns its direction.

    Names and arguments come from users, and a terminal obeys what it is sent.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        code -= 0xDC00
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def command_line(argv: Sequence[str], most: int | None = None) -> str:
    """Return an argv as one would type it in a shell, cut to `most` columns."""
    if most is None:
        return clean(" ".join(map(shlex.quote, argv)))
    # An argument takes a column at least; what is beyond the cut, which may be megabytes, is not
    # even looked at.
    text = " ".join(map(shlex.quote, argv[: most + 1]))
    taken = 0
    for at, each in enumerate(text):
        taken += columns(clean(each))
        if taken > most:
            return cut(clean(text[: at + 1]), most)
    return clean(text)


def duration(seconds: float) -> str:
    """Return "0.42s", "3.1s", "12s", "3m20s", "2h05m", "3d4h"."""
    if seconds < 0.995:
        return f"{max(seconds, 0):.2f}s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def age(moment: datetime | None, now: datetime) -> str:
    """Return how long ago something was, roughly: "12s", "3m", "2h", "5d"."""
    if moment is None:
        return "-"
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def moment(at: datetime) -> str:
    """Return a time in the time zone of the person who looks."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def now() -> datetime:
    """Return the present time, aware."""
    return datetime.now(UTC)


def size(count: float) -> str:
    """Return "512 B", "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, most: int) -> str:
    """Return a text that takes at most so many columns, with an ellipsis for what is cut off."""
    taken = kept = 0
    for at, each in enumerate(text):
        taken += _columns(each)
        if taken > most:
            return f"{text[:kept]}…" if most > 0 else ""
        if taken < most:
            kept = at + 1
    return text
