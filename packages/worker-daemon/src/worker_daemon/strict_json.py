"""JSON as this API reads and writes it: nothing ambiguous in, every byte out."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from worker_core.model import spec
from worker_core.model.errors import echo

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_LONGEST_NUMBER = 400  # digits; the largest float has 309
MOST_VALUES = spec.MAX_STRINGS // 8
"""Values of a text, by its commas and opening brackets: as many as a job can have arguments. An
empty list of three bytes takes 64 in memory."""
# A string, whole or to the end of the text, or what counts. Nothing is ever looked at twice: the
# repetitions give nothing back.
_COUNTED = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)


class TooManyValuesError(ValueError):
    """A text that would take many times its length in memory."""


def decode(data: bytes) -> Any:
    """Read a JSON text.

    Raises ValueError, as a sentence about the text, also for what Python's parser lets pass:
    NaN, infinities, a key that comes twice, and nesting that is too deep to read. A whole number is
    an int however it is written, as in 1.0: JSON has one kind of number.
    """
    _check_count(data)
    try:
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise ValueError("it is not JSON: it begins with a byte order mark (BOM)")
        return _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start} cannot be read") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"it is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check_count(data: bytes) -> None:
    """Raise TooManyValuesError for more than MOST_VALUES values."""
    if sum(map(data.count, (b",", b"[", b"{"))) <= MOST_VALUES:
        return
    count = 0
    for each in _COUNTED.finditer(data):
        count += each[0][:1] != b'"'
        if count > MOST_VALUES:
            raise TooManyValuesError(f"it has more than {MOST_VALUES} values")


def encode(value: object) -> bytes:
    """Write a JSON text as UTF-8.

    Python's stand-ins for raw bytes (U+DC80 to U+DCFF) come out as the escapes that `decode`
    reads back as the same.
    """
    # What UTF-8 cannot say, Python escapes exactly as JSON does: \\udcff.
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")


def encode_inside(text: str) -> bytes:
    """Write a part of a JSON string, without the quotation marks."""
    return encode(text)[1:-1]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {echo(twice)} comes twice in one object")
    return found


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"it has a number of more than {_LONGEST_NUMBER} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it is not JSON: {name} is no number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_refuse_constant,
    parse_int=_whole,
    parse_float=_number,
)
