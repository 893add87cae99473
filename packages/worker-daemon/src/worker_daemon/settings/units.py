"""Values as people write them in settings: ``8 MiB``, ``7d``, ``HOST:PORT``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# As those of a job: a database holds them, and a clock can wait for them.
_MOST_BYTES = 1 << 62
_MOST_SECONDS = 100 * 365 * 86400.0
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


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
    """What reads a number of bytes of at least `least`: ``1048576``, ``"16 MiB"``, ``"1GiB"``."""

    least: int = 0

    def __call__(self, value: object) -> int:
        """Return the number; raises ValueError."""
        number = _quantity(value, _SIZES, 'a number of bytes or a text such as "16 MiB"')
        return int(_within(number, self.least, _MOST_BYTES, size_text, value))


@dataclasses.dataclass(frozen=True)
class Duration:
    """What reads a number of seconds of at least `least`: ``30``, ``0.5``, ``"10m"``, ``"7d"``."""

    least: float = 0.0

    def __call__(self, value: object) -> float:
        """Return the number; raises ValueError."""
        number = _quantity(value, _SECONDS, 'a number of seconds or a text such as "10m"')
        return _within(number, self.least, _MOST_SECONDS, duration_text, value)


size = Size()
duration = Duration()


def size_text(value: int) -> str:
    """Return a number of bytes as a person would write it."""
    return _text(value, {name: each for name, each in _SIZES.items() if len(name) == 3})


def duration_text(seconds: float) -> str:
    """Return a number of seconds as a person would write it."""
    return _text(seconds, {name: each for name, each in _SECONDS.items() if len(name) == 1})


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


def _quantity(value: object, units: dict[str, int] | dict[str, float], wanted: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    factors = {name.lower(): factor for name, factor in units.items()}
    if match is None or match[2].lower() not in factors:
        raise ValueError(f"must be {wanted}, not {value!r}")
    return float(match[1]) * factors[match[2].lower()]
