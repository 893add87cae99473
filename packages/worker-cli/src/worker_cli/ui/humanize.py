"""Format durations, ages, sizes and command lines for people, safe to show on a terminal."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_SHELL_CHARACTERS = frozenset(" |&;<>$*?~`\"'()")


def clean(text: str) -> str:
    """Return a text with its control characters escaped.

    Names and arguments come from users. A terminal would obey escape sequences in them: move the
    cursor, change colours, or reverse the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        code -= 0xDC00
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_shell_line(command: str) -> bool:
    """Return whether a command contains characters that only a shell interprets."""
    return bool(_SHELL_CHARACTERS & set(command))


def command_line(argv: Sequence[str], width: int | None = None) -> str:
    """Return an argv as one would type it in a shell, truncated to `width` columns."""
    if width is None:
        return clean(" ".join(map(shlex.quote, argv)))
    # Every argument takes at least one column. The rest, which may be megabytes, is not looked at.
    text = " ".join(map(shlex.quote, argv[: width + 1]))
    taken = 0
    for index, char in enumerate(text):
        taken += columns(clean(char))
        if taken > width:
            return truncate(clean(text[: index + 1]), width)
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
    """Return roughly how long ago a moment was: "12s", "3m", "2h", "5d"."""
    if moment is None:
        return "-"
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def moment(at: datetime) -> str:
    """Return a time in the local time zone."""
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
    """Return how many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def truncate(text: str, width: int) -> str:
    """Return a text of at most `width` columns, with an ellipsis if it was cut off."""
    taken = kept = 0
    for index, char in enumerate(text):
        taken += _columns(char)
        if taken > width:
            return f"{text[:kept]}…" if width > 0 else ""
        if taken < width:
            kept = index + 1
    return text
