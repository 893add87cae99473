"""Rules for the fields of a job: each checks values, and describes them as a JSON Schema.

A field's rule is declared once, beside the field. The engine refuses values by it, and programs
that publish an API make their description of it.
"""

from __future__ import annotations

import base64
import math
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from worker_core.model import signals
from worker_core.model.errors import InvalidRequest, echo

Problems = Iterable[tuple[str, str]]  # (path below the field, what is wrong with it)
Schema = dict[str, Any]

MAX_SECONDS = 100 * 365 * 86400.0
MAX_BYTES = 1 << 62
_MOST_AMOUNT = 10**9  # processors, or seconds of their time


class Rule(Protocol):
    """What values a field takes."""

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with a value, whatever its type is."""

    def schema(self) -> Schema:
        """Return the JSON Schema (2020-12) of the values in a JSON object."""


def encoded(text: str) -> bytes:
    """Return the bytes of a text; raise ValueError for a surrogate that stands for no byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(
            "contains a lone surrogate that stands for no byte (only U+DC80 to U+DCFF do)"
        ) from None


@dataclass(frozen=True)
class Text:
    """A text, with or without a maximum of characters or of bytes."""

    empty: bool = True
    longest: int | None = None
    most_bytes: int | None = None

    def problems(self, value: object) -> Problems:
        """Return what is wrong with a text."""
        if not isinstance(value, str):
            return [("", f"must be a text, not {kind(value)}")]
        if not value and not self.empty:
            return [("", "must not be empty")]
        if self.longest is not None and len(value) > self.longest:
            return [("", f"must be at most {self.longest} characters")]
        try:
            size = len(encoded(value))
        except ValueError as error:
            return [("", str(error))]
        if self.most_bytes is not None and size > self.most_bytes:
            return [("", f"must be at most {self.most_bytes} bytes, not {size}")]
        return []

    def schema(self) -> Schema:
        """Return the schema; JSON Schema has no word for a maximum of bytes."""
        least: Schema = {} if self.empty else {"minLength": 1}
        most: Schema = {} if self.longest is None else {"maxLength": self.longest}
        return {"type": "string"} | least | most


@dataclass(frozen=True)
class AbsolutePath:
    """An absolute path of at most `most_bytes`."""

    most_bytes: int

    def problems(self, value: object) -> Problems:
        """Return what is wrong with a path."""
        problems = Text(empty=False, most_bytes=self.most_bytes).problems(value)
        if not problems and not str(value).startswith("/"):
            return [("", "must be an absolute path")]
        return problems

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "string", "pattern": "^/"}


@dataclass(frozen=True)
class AbsolutePaths:
    """A list of at most `most` absolute paths, none with a NUL."""

    most: int
    most_bytes: int

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with each path."""
        if isinstance(value, str) or not isinstance(value, Sequence):
            yield "", "must be a list of absolute paths"
            return
        if len(value) > self.most:
            yield "", f"must be at most {self.most} paths"
            return
        for at, path in enumerate(value):
            if not self._is_path(path):
                yield f"[{at}]", f"must be an absolute path of at most {self.most_bytes} bytes"

    def _is_path(self, value: object) -> bool:
        if not isinstance(value, str) or "\0" in value:
            return False
        return not AbsolutePath(self.most_bytes).problems(value)

    def schema(self) -> Schema:
        """Return the schema."""
        path = {"type": "string", "pattern": r"^/[^\u0000]*$"}
        return {"type": "array", "maxItems": self.most, "items": path}


@dataclass(frozen=True)
class Texts:
    """A list of texts of at most `most_bytes` each."""

    most_bytes: int

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with each text."""
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            yield "", f"must be a list of texts, not {kind(value)}"
            return
        text = Text(most_bytes=self.most_bytes)
        for at, each in enumerate(value):
            for _, why in text.problems(each):
                yield f"[{at}]", why

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "array", "items": Text(most_bytes=self.most_bytes).schema()}


@dataclass(frozen=True)
class TextMapping:
    """An object of texts whose names hold no `=`: environment variables, or labels."""

    most: int | None = None
    longest: int | None = None
    """Characters of a name or a value."""
    most_bytes: int | None = None
    """Bytes of a name and its value together with the `=` between them."""

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with each name and value."""
        if not isinstance(value, Mapping):
            yield "", f"must be an object of texts, not {kind(value)}"
            return
        if self.most is not None and len(value) > self.most:
            yield "", f"must have at most {self.most} entries"
            return
        text, name = Text(longest=self.longest), Text(empty=False, longest=self.longest)
        for key, each in value.items():
            path = f"[{echo(key)}]"
            for _, why in text.problems(each):
                yield path, why
            for _, why in name.problems(key):
                yield path, f"as a name: {why}"
            if isinstance(key, str) and "=" in key:
                yield path, "as a name: must not contain '='"
        if self.most_bytes is not None:
            yield from self._too_long(value, self.most_bytes)

    def _too_long(self, value: Mapping[str, str], most: int) -> Iterator[tuple[str, str]]:
        for key, each in value.items():
            both = f"{key}={each}"
            if len(both) * 4 > most and _is_longer(both, most):
                yield f"[{echo(key)}]", f"must be at most {most} bytes with its name and '='"

    def schema(self) -> Schema:
        """Return the schema."""
        names = Text(empty=False, longest=self.longest).schema() | {"pattern": "^[^=]+$"}
        del names["type"]  # a name in JSON is always a text
        found = {
            "type": "object",
            "additionalProperties": Text(longest=self.longest).schema(),
            "propertyNames": names,
        }
        return found | ({} if self.most is None else {"maxProperties": self.most})


@dataclass(frozen=True)
class Seconds:
    """A number of seconds, from 0 or above 0."""

    zero: bool = True

    def problems(self, value: object) -> Problems:
        """Return what is wrong with a number."""
        if not is_number(value):
            return [("", f"must be a number of seconds, not {kind(value)}")]
        fits = 0 <= value <= MAX_SECONDS and math.isfinite(value) and (self.zero or value > 0)
        least = "from 0" if self.zero else "above 0"
        problem = f"must be a number of seconds {least} and up to {MAX_SECONDS:.0f}"
        return [] if fits else [("", problem)]

    def schema(self) -> Schema:
        """Return the schema."""
        least = {"minimum": 0} if self.zero else {"exclusiveMinimum": 0}
        return {"type": "number", "maximum": MAX_SECONDS} | least


@dataclass(frozen=True)
class Size:
    """A whole number of bytes; 0 is no limit."""

    def problems(self, value: object) -> Problems:
        """Return what is wrong with a number."""
        if not is_whole(value):
            return [("", f"must be a whole number of bytes, not {kind(value)}")]
        return [] if 0 <= value <= MAX_BYTES else [("", f"must be from 0 to {MAX_BYTES} bytes")]

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "integer", "minimum": 0, "maximum": MAX_BYTES}


@dataclass(frozen=True)
class Whole:
    """A whole number of at least `least`."""

    least: int = 1

    def problems(self, value: object) -> Problems:
        """Return what is wrong with a number."""
        if not is_whole(value):
            return [("", "must be a whole number")]
        if value < self.least:
            return [("", f"must be at least {self.least}")]
        return [] if value <= MAX_BYTES else [("", f"must be at most {MAX_BYTES}")]

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "integer", "minimum": self.least, "maximum": MAX_BYTES}


@dataclass(frozen=True)
class Amount:
    """A number of processors, or of seconds of their time, of at least a hundredth."""

    def problems(self, value: object) -> Problems:
        """Return what is wrong with a number."""
        if not is_number(value):
            return [("", "must be a number")]
        if not value >= 0.01:  # which is also true of NaN
            return [("", "must be at least 0.01")]
        return [] if value <= _MOST_AMOUNT else [("", f"must be at most {_MOST_AMOUNT}")]

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "number", "minimum": 0.01, "maximum": _MOST_AMOUNT}


@dataclass(frozen=True)
class Rates:
    """An object with some of `names`, each a whole number of bytes per second."""

    names: Sequence[str]

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with each number."""
        if not isinstance(value, Mapping) or not value or set(value) - set(self.names):
            listed = ", ".join(self.names)
            yield "", f"must be an object with {listed} or both, in bytes per second"
            return
        for name, each in value.items():
            for _, why in Whole().problems(each):
                yield f".{name}", why

    def schema(self) -> Schema:
        """Return the schema."""
        return {
            "type": "object",
            "properties": {name: Whole().schema() for name in self.names},
            "additionalProperties": False,
            "minProperties": 1,
        }


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def problems(self, value: object) -> Problems:
        """Return what is wrong with a value."""
        if isinstance(value, bool):
            return []
        return [("", f"must be true or false, not {kind(value)}")]

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Signal:
    """A signal by name or number: "TERM", "SIGTERM", 15."""

    def problems(self, value: object) -> Problems:
        """Return why a value is not a signal."""
        try:
            signals.number(value)  # type: ignore[arg-type]  # it refuses every other type
        except InvalidRequest as error:
            return [("", str(error))]
        return []

    def schema(self) -> Schema:
        """Return the schema of what `signals.number` takes, but for names in lower case."""
        names = "|".join(each.name.removeprefix("SIG") for each in signal.Signals)
        examples = ["TERM", "SIGKILL"]
        return {
            "anyOf": [
                {"type": "string", "pattern": f"^(SIG)?({names})$", "examples": examples},
                {"type": "integer", "enum": sorted(map(int, signal.valid_signals()))},
            ]
        }


_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def bytes_from_json(value: object) -> bytes:
    """Return the bytes of a text, or of an object with `base64`; raises ValueError."""
    if isinstance(value, str):
        return encoded(value)
    if isinstance(value, dict) and set(value) == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except ValueError as error:
            raise ValueError(f"not valid base64: {error}") from None
    raise ValueError('must be a text or {"base64": "…"}')


def bytes_schema() -> Schema:
    """Return the schema of what `bytes_from_json` takes."""
    return {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"base64": {"type": "string", "pattern": _BASE64}},
                "required": ["base64"],
                "additionalProperties": False,
            },
        ]
    }


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind(value: object) -> str:
    """Return what a value is, for a message."""
    if value is None:
        return "null"
    if is_number(value):
        return "a number"
    return _KINDS.get(type(value), type(value).__name__)


def _is_longer(text: str, most: int) -> bool:
    try:
        return len(encoded(text)) > most
    except ValueError:  # which is a problem of its own
        return False
