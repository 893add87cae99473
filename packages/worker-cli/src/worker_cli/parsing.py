"""Parse the values that users type. Each function raises ValueError for an invalid text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_CENTURY = 100 * 365 * 86400
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)"
_INVALID_DURATION = "must be seconds {}, or a duration such as 90s, 10m, 1h30m or 2d"
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MAX_BYTES = 1 << 62  # the server's own limit


def text(value: str) -> str:
    """Return a text that is not empty."""
    if not value:
        raise ValueError("must not be empty")
    return value


def is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def lossless(word: str) -> str:
    """Return a word of the command line as UTF-8, with lone surrogates for all other bytes.

    In a locale that is not UTF-8, Python decoded the same bytes to other characters.
    """
    return os.fsencode(word).decode("utf-8", "surrogateescape")


def duration(value: str) -> float:
    """Return the seconds in "90", "1.5", "10m", "1h30m", "500ms"."""
    return _seconds(value, "from 0 up")


def time_limit(value: str) -> float:
    """Return the seconds of a duration above 0."""
    seconds = _seconds(value, "above 0")
    if not seconds:
        raise ValueError(_INVALID_DURATION.format("above 0"))
    return seconds


def _seconds(value: str, which: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        seconds = float(value)
    elif re.fullmatch(f"(?:{_PART})+", value, re.ASCII):
        seconds = math.fsum(float(n) * _UNITS[unit] for n, unit in re.findall(_PART, value))
    else:
        raise ValueError(_INVALID_DURATION.format(which))
    if seconds > _CENTURY:
        raise ValueError("must be less than a hundred years")
    return seconds


def count(value: str) -> int:
    """Return a whole number from 0 up."""
    return _whole(value, 0)


def count_limit(value: str) -> int:
    """Return a whole number from 1 up."""
    return _whole(value, 1)


def _whole(value: str, least: int) -> int:
    if not re.fullmatch(r"\d{1,15}", value, re.ASCII) or int(value) < least:
        raise ValueError(f"must be a whole number from {least} to 999999999999999")
    return int(value)


def number_limit(value: str) -> float:
    """Return a number above 0."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII) or not float(value):
        raise ValueError("must be a number above 0 and up to 999999999, such as 2 or 0.5")
    return float(value)


def size(value: str) -> int:
    """Return the bytes in "4096", "10k", "1.5G", "64MiB"."""
    return _size(value, 0)


def size_limit(value: str) -> int:
    """Return the bytes of a size above 0."""
    return _size(value, 1)


def _size(value: str, least: int) -> int:
    invalid = f"must be a number of bytes from {least} up, such as 4096, 64k, 10M or 1G"
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", value, re.ASCII | re.IGNORECASE)
    if not match:
        raise ValueError(invalid)
    count = float(match[1]) * _SIZES[match[2].lower()]
    if count > _MAX_BYTES:
        raise ValueError("must be at most 4 EiB, which is 4194304T")
    if count < least:
        raise ValueError(invalid)
    return int(count)


def pair(value: str) -> tuple[str, str]:
    """Return the key and the value in KEY=VALUE."""
    key, equals, rest = value.partition("=")
    if not key or not equals:
        raise ValueError("must be KEY=VALUE")
    return key, rest


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that accepts only these words."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return parse
