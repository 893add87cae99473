"""The JSON of this API: ambiguous texts are refused, and every byte of a job can be written."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from worker_core.model import spec
from worker_core.model.errors import echo

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_LONGEST_NUMBER = 400  # digits; the largest float has 309
MOST_VALUES = spec.MAX_STRINGS // 8
"""The most values in a text, counted by commas and opening brackets: as many as a job can have
arguments. Each takes memory: an empty list of three bytes takes 64."""
# A string (to its end, or to the end of the text), or a character that counts. The possessive
# repetitions never go back, so that the time is linear.
_COUNTED = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)


class TooManyValuesError(ValueError):
    """The text would take many times its length in memory."""


def decode(data: bytes) -> Any:
    """Read a JSON text.

    Raises ValueError with a sentence about the text. This includes what Python's parser accepts:
    NaN, infinities, and a key that occurs twice; also nesting that is too deep. Whole numbers
    become int however they are written, as in 1.0: JSON has only one kind of number.
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

    The surrogates that Python uses for raw bytes (U+DC80 to U+DCFF) are written as escapes, which
    `decode` reads as the same surrogates.
    """
    # Python escapes what UTF-8 cannot encode as JSON does: \\udcff.
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")


def encode_inside(text: str) -> bytes:
    """Write a part of a JSON string, without quotation marks."""
    return encode(text)[1:-1]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {echo(twice)} occurs twice in one object")
    return found


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"it has a number of more than {_LONGEST_NUMBER} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it is not JSON: {name} is not a number in JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_refuse_constant,
    parse_int=_whole,
    parse_float=_number,
)
