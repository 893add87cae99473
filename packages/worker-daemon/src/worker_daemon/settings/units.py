"""Values as people write them: sizes (``2G``), durations (``1h30m``), addresses (``HOST:PORT``).

Settings and the options of ``worker run`` share one syntax for sizes and durations. The client has
a parser of its own (``worker_cli.parsing``), because it shares no code with the server; a test
compares the two. Settings also accept blanks and units in any case: ``8 MiB``, ``7D``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
# The same maxima as for a job: the database can hold them, and a clock can wait for them.
_MOST_BYTES = 1 << 62
_MOST_SECONDS = 100 * 365 * 86400.0
_NUMBER = r"\d+(?:\.\d+)?"
_SIZE = re.compile(rf"({_NUMBER})\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_PART = re.compile(rf"({_NUMBER})\s*(ms|[smhdw])\s*", re.ASCII | re.IGNORECASE)
_SUM = re.compile(rf"(?:{_PART.pattern})+", re.ASCII | re.IGNORECASE)


class Address(NamedTuple):
    """Where to listen: a host name or IP address, and a port (0 lets the system pick one)."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address(value: object) -> Address:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (every address of this machine)."""
    if not isinstance(value, str):
        raise ValueError('must be "HOST:PORT"')
    host, colon, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'must be "HOST:PORT" with a port from 0 to 65535, not {value!r}')
    if (":" in bare) != host.startswith("[") or host.startswith("[") != host.endswith("]"):
        raise ValueError(f'must be "HOST:PORT", an IPv6 address in brackets, not {value!r}')
    return Address(bare or "::", int(port))


def count(least: int) -> Callable[[object], int]:
    """Return what reads a whole number of at least `least`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"must be a whole number of at least {least}, not {value!r}")
        return value

    return read


@dataclasses.dataclass(frozen=True)
class Size:
    """Reads a number of bytes of at least `least`: ``4096``, ``"64k"``, ``"1.5G"``, ``"16 MiB"``.

    All units are powers of 1024: ``k``, ``kB`` and ``KiB`` mean the same.
    """

    least: int = 0

    def __call__(self, value: object) -> int:
        """Return the number; raises ValueError."""
        match = _SIZE.fullmatch(_written(value))
        if match is None:
            raise ValueError(f'must be a number of bytes or a text such as "16 MiB", not {value!r}')
        number = float(match[1]) * _SIZES[match[2].upper()]
        return int(_within(number, self.least, _MOST_BYTES, size_text, value))


@dataclasses.dataclass(frozen=True)
class Duration:
    """Reads a number of seconds of at least `least`: ``30``, ``0.5``, ``"10m"``, ``"1h30m"``."""

    least: float = 0.0

    def __call__(self, value: object) -> float:
        """Return the number; raises ValueError."""
        try:
            number = seconds(_written(value))
        except ValueError as error:
            raise ValueError(f"{error}, not {value!r}") from None
        return _within(number, self.least, _MOST_SECONDS, duration_text, value)


size = Size()
duration = Duration()


def size_text(value: int) -> str:
    """Return a number of bytes as a person would write it, without rounding."""
    return _text(value, {"": 1} | {f"{unit}iB": each for unit, each in _SIZES.items() if unit})


def duration_text(seconds: float) -> str:
    """Return a number of seconds as a person would write it, without rounding."""
    # Not in weeks: "7d" and "30d" are compared at a glance, "1w" and "30d" are not.
    return _text(seconds, {unit: _SECONDS[unit] for unit in "smhd"})


def _written(value: object) -> str:
    """Return a value of a TOML file as text; a value of another type as the empty text."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def seconds(text: str) -> float:
    """Return the seconds in ``90``, ``1.5``, ``10m``, ``1h30m``; raises ValueError."""
    if re.fullmatch(_NUMBER, text, re.ASCII):
        return float(text)
    if not _SUM.fullmatch(text):
        raise ValueError('must be a number of seconds or a text such as "10m"')
    return math.fsum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(text))


def _within(
    number: float, least: float, most: float, text: Callable[[Any], str], given: object
) -> float:
    if number < least:
        raise ValueError(f"must be at least {text(least)}, not {given!r}")
    if number > most:
        raise ValueError(f"must be at most {text(most)}, not {given!r}")
    return number


def _text(value: float, units: dict[str, int] | dict[str, float]) -> str:
    for name, each in reversed(units.items()):
        if value and value % each == 0:
            return f"{int(value / each)}{name}"
    return str(int(value) if value == int(value) else value)
