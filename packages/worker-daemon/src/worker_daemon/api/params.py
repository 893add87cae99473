"""Declarative query, body and header parameters: parsing, validation, OpenAPI.

A query or a body is a frozen dataclass whose annotations contain a `Field`:

    wait: Annotated[float, Field(Number(0, 60), "Seconds to wait for the end.")] = 0.0
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from worker_core import FieldError, InvalidRequest
from worker_core.model import rules, signals, spec
from worker_core.model.errors import MOST_FAULTS, name_echo

from worker_daemon import problems
from worker_daemon.settings import units

T = TypeVar("T")


class Rule(Protocol):
    """The values of a field. Both methods that read one raise ValueError: "must be …"."""

    def from_text(self, text: str) -> Any:
        """Read the value of a query parameter."""

    def from_json(self, value: object) -> Any:
        """Read the value of a member of a JSON object."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""


@dataclasses.dataclass(frozen=True)
class Field:
    """The rule of a field, its meaning, and whether a query may have it several times."""

    rule: Rule
    doc: str
    many: bool = False


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from `least` to `most`."""

    least: float
    most: float
    whole: bool = False

    def from_text(self, text: str) -> float:
        """Read a decimal number."""
        shape = r"-?\d{1,19}" if self.whole else r"-?\d{1,19}(\.\d{1,19})?(e[+-]?\d{1,3})?"
        if not re.fullmatch(shape, text, re.ASCII):
            raise ValueError(self._must_be())
        return self.from_json(int(text) if self.whole else float(text))

    def from_json(self, value: object) -> float:
        """Check a number."""
        kind = int if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ValueError(self._must_be())
        if not self.least <= value <= self.most:
            raise ValueError(self._must_be())
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""
        kind = "integer" if self.whole else "number"
        return {"type": kind, "minimum": self.least, "maximum": self.most}

    def _must_be(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"must be {kind} from {self.least} to {self.most}"


Whole = functools.partial(Number, whole=True)


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    def from_text(self, text: str) -> bool:
        """Read `true` or `false`."""
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"

    def from_json(self, value: object) -> bool:
        """Check a value that must be true or false."""
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""
        return {"type": "boolean"}


@dataclasses.dataclass(frozen=True)
class Text:
    """A text of `least` to `most` characters that matches `shape`.

    It must be UTF-8; with `raw`, it may also contain other bytes, as surrogates (surrogateescape).
    `read` converts it to the value, and may raise ValueError.
    """

    least: int = 1
    most: int = 255
    shape: str | None = None
    hint: str | None = None
    raw: bool = False
    read: Callable[[str], Any] = str
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def from_text(self, text: str) -> Any:
        """Read the text."""
        if not self.least <= len(text) <= self.most:
            raise ValueError(self.hint or f"must be {self.least} to {self.most} characters long")
        if self.shape is not None and not re.search(self.shape, text):
            raise ValueError(self.hint or f"must match {self.shape}")
        try:
            text.encode("utf-8", "surrogateescape" if self.raw else "strict")
        except UnicodeEncodeError:
            raise ValueError("must not contain a lone surrogate: it is not UTF-8") from None
        return self.read(text)

    def from_json(self, value: object) -> Any:
        """Check and convert a text."""
        if not isinstance(value, str):
            raise ValueError("must be a text")
        return self.from_text(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""
        schema = {"type": "string", "minLength": self.least, "maxLength": self.most, **self.more}
        return schema | ({"pattern": self.shape} if self.shape else {})


@dataclasses.dataclass(frozen=True)
class Word:
    """One of a few words; `read` converts it to the value."""

    words: Sequence[str]
    read: Callable[[str], Any] = str

    def from_text(self, text: str) -> Any:
        """Read the word."""
        if text not in self.words:
            raise ValueError(f"must be one of {', '.join(self.words)}")
        return self.read(text)

    def from_json(self, value: object) -> Any:
        """Check and convert the word."""
        return self.from_text(value if isinstance(value, str) else "")

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""
        return {"type": "string", "enum": list(self.words)}


@dataclasses.dataclass(frozen=True)
class Signal:
    """A signal by name or number: "TERM", "SIGTERM", 15."""

    def from_text(self, text: str) -> int:
        """Return the number of a signal in text."""
        return self.from_json(text)

    def from_json(self, value: object) -> int:
        """Return the number of a signal."""
        try:
            return signals.number(value)  # type: ignore[arg-type]  # it refuses every other type
        except InvalidRequest as error:
            raise ValueError(str(error)) from None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""
        return rules.Signal().schema()


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_A_MOMENT) from None
    if moment.tzinfo is None:
        raise ValueError(_A_MOMENT)
    return moment.timestamp()


@dataclasses.dataclass(frozen=True)
class Ago:
    """A time given as how long ago it was; the server computes it by its own clock."""

    seconds: float


def _moment_or_ago(text: str) -> float | Ago:
    if not re.fullmatch(_DURATION, text, re.ASCII):
        return _moment(text)
    return Ago(min(units.seconds(text), spec.MAX_SECONDS))  # no job is older


_DURATION = r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+"
_A_MOMENT = "must be a time such as 2026-01-31T09:00:00Z, or how long ago: 90s, 12h, 7d"
Moment = functools.partial(
    Text,
    most=40,
    read=_moment_or_ago,
    more={"anyOf": [{"format": "date-time"}, {"pattern": f"^{_DURATION}$"}]},
    hint=_A_MOMENT,
)
"""A time in RFC 3339, or an `Ago`."""


def declared(of: type) -> Mapping[str, Field]:
    """Return the declared fields of a query or a body by name."""
    return _declared(of)


@functools.cache  # evaluating the annotations takes as long as the rest of a request
def _declared(of: type) -> Mapping[str, Field]:
    hints = typing.get_type_hints(of, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def from_query(of: type[T], pairs: Sequence[tuple[str, str]]) -> T:
    """Read query parameters; raises Problem, which names every invalid one."""
    given: dict[str, list[str]] = {}
    known = declared(of)
    for name, text in pairs:
        takes_bytes = name in known and getattr(known[name].rule, "raw", False)
        if not (text.isascii() or takes_bytes or _is_utf8(text)):
            raise problems.broken_query()
        given.setdefault(name, []).append(text)
    return _read(of, given, _from_texts, "parameter")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def from_object(of: type[T], given: Mapping[str, object]) -> T:
    """Read a JSON object; null means a missing field. Raises Problem with all faults."""
    present = {name: value for name, value in given.items() if value is not None}
    return _read(of, present, lambda field, value: field.rule.from_json(value), "field")


def from_headers(of: type[T], header: Callable[[str], str | None]) -> T:
    """Read request headers; a field `last_event_id` is the header Last-Event-Id."""
    given = {name: header(header_name(name)) for name in declared(of)}
    present = {name: text for name, text in given.items() if text is not None}
    try:
        return _read(of, present, lambda field, text: field.rule.from_text(text), "header")
    except problems.Problem as problem:
        detail = problem.detail.replace("_", "-")
        raise problems.Problem("malformed_request", f"the header {detail}") from None


def header_name(name: str) -> str:
    """Return the name of the header that a field represents."""
    return "-".join(map(str.title, name.split("_")))


def _from_texts(field: Field, texts: list[str]) -> Any:
    if field.many:
        return tuple(field.rule.from_text(text) for text in texts)
    if len(texts) > 1:
        raise ValueError("must be given once")
    return field.rule.from_text(texts[0])


def _read(of: type[T], given: Mapping[str, Any], read: Callable[[Field, Any], Any], what: str) -> T:
    values: dict[str, Any] = {}
    found = _faults(of, given, values, read, what)
    if faults := list(itertools.islice(found, MOST_FAULTS)):
        raise problems.invalid(faults)
    return of(**values)


def _faults(
    of: type,
    given: Mapping[str, Any],
    values: dict[str, Any],
    read: Callable[[Field, Any], Any],
    what: str,
) -> Iterator[FieldError]:
    """Yield the faults, and put the valid values into `values`."""
    known = declared(of)
    for name, raw in given.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            yield FieldError(name_echo(name), f"unknown {what}; known here: {listed}")
            continue
        try:
            values[name] = read(known[name], raw)
        except ValueError as error:
            yield FieldError(name, str(error))
    for name in required(of):
        if name not in given:
            yield FieldError(name, "required")


def required(of: type) -> list[str]:
    """Return the names of the fields that have no default."""
    return [
        each.name
        for each in dataclasses.fields(of)
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
