"""What people type as values, and what it means. Each function raises ValueError for a bad text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_CENTURY = 100 * 365 * 86400
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)"
_NO_DURATION = "must be seconds {}, or a duration such as 90s, 10m, 1h30m or 2d"
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MOST_BYTES = 1 << 62  # as the server has it


def text(value: str) -> str:
    """Take a text that is not empty."""
    if not value:
        raise ValueError("must not be empty")
    return value


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates, which stand for bytes that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def lossless(word: str) -> str:
    """Return a word of the command line as UTF-8, with lone surrogates for all other bytes.

    In a locale that is not UTF-8, Python has read the same bytes as other characters.
    """
    return os.fsencode(word).decode("utf-8", "surrogateescape")


def duration(value: str) -> float:
    """Return the seconds in "90", "1.5", "10m", "1h30m", "500ms"."""
    return _seconds(value, "from 0 up")


def time_limit(value: str) -> float:
    """Return the seconds of a duration that is more than none at all."""
    seconds = _seconds(value, "above 0")
    if not seconds:
        raise ValueError(_NO_DURATION.format("above 0"))
    return seconds


def _seconds(value: str, which: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        seconds = float(value)
    elif re.fullmatch(f"(?:{_PART})+", value, re.ASCII):
        seconds = math.fsum(float(n) * _UNITS[unit] for n, unit in re.findall(_PART, value))
    else:
        raise ValueError(_NO_DURATION.format(which))
    if seconds > _CENTURY:
        raise ValueError("must be less than a hundred years")
    return seconds


def count(value: str) -> int:
    """Take a whole number that is not negative."""
    return _whole(value, 0)


def count_limit(value: str) -> int:
    """Take a whole number that is more than none at all."""
    return _whole(value, 1)


def _whole(value: str, least: int) -> int:
    if not re.fullmatch(r"\d{1,15}", value, re.ASCII) or int(value) < least:
        raise ValueError(f"must be a whole number from {least} to 999999999999999")
    return int(value)


def number_limit(value: str) -> float:
    """Take a number that is more than none at all."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII) or not float(value):
        raise ValueError("must be a number above 0 and up to 999999999, such as 2 or 0.5")
    return float(value)


def size(value: str) -> int:
    """Return the bytes in "4096", "10k", "1.5G", "64MiB"."""
    return _size(value, 0)


def size_limit(value: str) -> int:
    """Return the bytes of a size that is more than none at all."""
    return _size(value, 1)


def _size(value: str, least: int) -> int:
    wrong = f"must be a number of bytes from {least} up, such as 4096, 64k, 10M or 1G"
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", value, re.ASCII | re.IGNORECASE)
    if not found:
        raise ValueError(wrong)
    count = float(found[1]) * _SIZES[found[2].lower()]
    if count > _MOST_BYTES:
        raise ValueError("must be at most 4 EiB, which is 4194304T")
    if count < least:
        raise ValueError(wrong)
    return int(count)


def pair(value: str) -> tuple[str, str]:
    """Return the two halves of KEY=VALUE."""
    key, equals, rest = value.partition("=")
    if not key or not equals:
        raise ValueError("must be KEY=VALUE")
    return key, rest


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that takes one of a few words."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return parse
