"""JobSpec: what to run, as a frozen value that was validated once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from worker_core.model import limits, rules, signals
from worker_core.model.errors import MOST_FAULTS, FieldError, InvalidSpec, name_echo
from worker_core.model.job import stamp
from worker_core.model.limits import Isolation, Limits
from worker_core.model.waiting import after, queueing
from worker_core.model.waiting.after import After

MAX_NAME = 255  # characters in a name, a label's key or its value
MAX_LABELS = 64
MAX_SECONDS = rules.MAX_SECONDS
MAX_BYTES = rules.MAX_BYTES
# What execve(2) accepts on no machine is refused at once. What this machine does not accept,
# because of its limit on the stack, makes the job fail.
MAX_STRING = 32 * os.sysconf("SC_PAGE_SIZE") - 1
"""Bytes of one argument or variable (MAX_ARG_STRLEN): 128 KiB minus one with pages of 4 KiB."""
MAX_STRINGS = 6 << 20
"""Bytes of all arguments and variables: three quarters of the kernel's largest stack, 8 MiB."""
_POINTER = 9  # bytes that each of them takes besides its own: a pointer, and the NUL at its end

T = TypeVar("T")

_NO_LIMITS, _NO_ISOLATION = Limits(), Isolation()


@dataclass(frozen=True)
class StoredStdin:
    """Stands in a stored spec for input that is kept in the job's directory."""

    size: int


@dataclass(frozen=True)
class JobSpec:
    """One process to run: an argv, never a shell line. Every field except `command` has a default.

    Bytes that are not UTF-8 are given as Python's surrogateescape characters (U+DC80 to U+DCFF),
    which `os.fsdecode` makes. A NUL byte is accepted here; the job then fails with that reason.

    Raises InvalidSpec, which names every field that is wrong.
    """

    whole: ClassVar[bool] = True
    """False of an `Outline`."""
    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the clean environment that every job gets."""
    cwd: str | None = None
    """An absolute path; None means the home of the Unix account that the job runs as."""
    stdin: bytes | Path | StoredStdin | None = None
    """Bytes or a file to read; None means /dev/null."""
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    """Seconds from the start after which the job ends as timed_out; None means no limit."""
    stop_signal: str = "SIGTERM"
    stop_grace: float = 10.0
    """Seconds between the stop signal and SIGKILL."""
    separate_stderr: bool = False
    limits: Limits = _NO_LIMITS
    isolation: Isolation = _NO_ISOLATION
    output_limit: int | None = None
    """How many bytes of each stream are kept: the newest, and up to 64 KiB more. 0 means no limit,
    None the engine's default."""
    priority: int = 0
    """From -100 to 100: of its owner's waiting jobs the one with the highest is first."""
    hold: bool = False
    """Whether it waits until `Engine.update` releases it."""
    start_after: float | None = None
    """Unix time before which it does not start."""
    lock: str | None = None
    """Of its owner's jobs with this lock, one runs at a time."""
    after: Sequence[After] = ()
    """Jobs of the same owner that must reach a state before it starts; if one never can, it
    ends as skipped."""

    def __post_init__(self) -> None:
        """Validate every field and convert it to its canonical form."""
        found: list[FieldError] = []
        for name, value in vars(self).items():
            if value is not _DEFAULTS[name]:
                _check(name, value, found)
        if not found:
            found.extend(_together(self.command, self.args, self.env))
        if found:
            raise InvalidSpec(found)
        object.__setattr__(self, "args", tuple(self.args))
        object.__setattr__(self, "after", tuple(self.after))
        object.__setattr__(self, "env", dict(self.env))
        object.__setattr__(self, "labels", dict(self.labels))
        if isinstance(self.stdin, Path):  # the supervisor has another cwd
            object.__setattr__(self, "stdin", _absolute(self.stdin))
        object.__setattr__(self, "stop_signal", signals.name(signals.number(self.stop_signal)))

    @classmethod
    def from_dict(cls, value: object) -> JobSpec:
        """Make a spec from the API's JSON job object; unknown fields are refused by name."""
        if not isinstance(value, dict):
            raise InvalidSpec([FieldError("", "the job must be an object with a command")])
        known = "unknown field; known are " + ", ".join(sorted(_DEFAULTS))
        unknown = (name for name in value if name not in _DEFAULTS)
        found = [FieldError(name_echo(each), known) for each in _few(unknown)]
        given = {name: each for name, each in value.items() if name in _DEFAULTS}
        if given.get("command") is None:
            found.append(FieldError("command", "required"))
        for name, parse in _PARSERS.items():
            try:
                if given.get(name) is not None:
                    given[name] = parse(given[name])
            except (ValueError, KeyError) as error:
                found.append(FieldError(name, str(error.args[0])))
                del given[name]
        # Null means the same as leaving the field out.
        given = {name: each for name, each in given.items() if each is not None}
        try:
            spec = cls(**{"command": "-"} | given)
        except InvalidSpec as error:
            found.extend(error.errors)
        if found:
            raise InvalidSpec(_few(found))
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form. It has only the size or the file of stdin, not the content."""
        shown = dict(vars(self))
        shown["args"] = list(self.args)
        shown["after"] = [each.to_dict() for each in self.after]
        shown["limits"] = {} if self.limits is _NO_LIMITS else self.limits.to_dict()
        shown["isolation"] = {} if self.isolation is _NO_ISOLATION else self.isolation.to_dict()
        if self.start_after is not None:
            shown["start_after"] = stamp(self.start_after)
        match self.stdin:
            case bytes():
                shown["stdin"] = {"size": len(self.stdin)}
            case StoredStdin():
                shown["stdin"] = {"size": self.stdin.size}
            case Path():
                shown["stdin"] = {"file": str(self.stdin)}
        return shown

    @classmethod
    def from_stored(cls, value: dict[str, Any]) -> JobSpec:
        """Make a spec again from what `to_dict` gave."""
        bounds, boxed = value.get("limits"), value.get("isolation")
        value = value | {
            "limits": limits.from_dict(Limits, bounds) if bounds else _NO_LIMITS,
            "isolation": limits.from_dict(Isolation, boxed) if boxed else _NO_ISOLATION,
        }
        stdin = value.get("stdin")
        if stdin is not None:
            stored = StoredStdin(stdin["size"]) if "size" in stdin else Path(stdin["file"])
            value = value | {"stdin": stored}
        if value.get("start_after") is not None:
            value = value | {"start_after": queueing.moment(value["start_after"])}
        value = value | {"after": after.from_list(value.get("after") or [])}
        # Validated when it was made; validating it again would let a later release refuse to
        # read what an earlier one accepted.
        fresh: dict[str, Any] = {"env": {}, "labels": {}}
        kind = JobSpec if "command" in value else Outline
        if kind is Outline:  # the labels of hundreds of these could be many megabytes
            value = value | {"labels": {}}
        values = vars(DEFAULT) | fresh | value | {"args": tuple(value.get("args", ()))}
        return _unchecked(values, kind)

    @property
    def confined(self) -> bool:
        """Whether the spec has limits or isolation."""
        return self.limits is not _NO_LIMITS or self.isolation is not _NO_ISOLATION

    def bounded(self, output_limit: int) -> JobSpec:
        """Return the same spec, with this output limit if it has none."""
        if self.output_limit is not None:
            return self
        return _unchecked(vars(self) | {"output_limit": output_limit})


@dataclass(frozen=True)
class Outline(JobSpec):
    """A stored spec without its long parts, which have their defaults here: command,
    args, env, cwd, stdin, after, labels and the paths of isolation. Whoever needs these reads the
    whole spec."""

    whole: ClassVar[bool] = False


def outline(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outline of a spec, both in the form of `to_dict`."""
    short = {name: each for name, each in stored.items() if name not in _MAY_BE_LONG}
    isolation = {name: each for name, each in stored["isolation"].items() if name != "writable"}
    return short | {"isolation": isolation}


_MAY_BE_LONG = {"command", "args", "env", "cwd", "stdin", "after"}


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError:
        why = "must be an absolute path: the working directory was removed"
        raise InvalidSpec([FieldError("stdin", why)]) from None


def _unchecked(values: dict[str, Any], kind: type[JobSpec] = JobSpec) -> JobSpec:
    spec = object.__new__(kind)
    vars(spec).update(values)
    return spec


_PARSERS: dict[str, Callable[[object], object]] = {
    "stdin": rules.bytes_from_json,
    "limits": lambda value: limits.from_dict(Limits, value),
    "isolation": lambda value: limits.from_dict(Isolation, value),
    "start_after": queueing.moment,
    "after": after.from_list,
}


def check(values: Mapping[str, Any]) -> None:
    """Raise InvalidSpec for fields that are wrong; what is None is left out."""
    found: list[FieldError] = []
    for name, value in values.items():
        if value is not None:
            _check(name, value, found)
    if found:
        raise InvalidSpec(found)


def _few(found: Iterable[T]) -> list[T]:
    """Return the first faults, as many as an error reports; the others are not looked for."""
    return list(itertools.islice(found, MOST_FAULTS))


def _check(name: str, value: object, found: list[FieldError]) -> None:
    for path, problem in itertools.islice(RULES[name].problems(value), MOST_FAULTS - len(found)):
        found.append(FieldError(name + path, problem))


def _together(command: str, args: Sequence[str], env: Mapping[str, str]) -> Iterator[FieldError]:
    """Yield a fault if no program can be started with so many arguments and variables."""
    strings = [command, *args, *env, *env.values()]
    taken = sum(map(len, strings)) + _POINTER * len(strings)
    if taken * 4 <= MAX_STRINGS:  # whatever the characters
        return
    taken = sum(len(rules.encoded(each)) for each in strings) + _POINTER * len(strings)
    if taken > MAX_STRINGS:
        yield FieldError(
            "args",
            f"must be at most {MAX_STRINGS} bytes together with env, as execve(2) counts them, not "
            f"{taken}; give the job a file or its standard input",
        )


@dataclass(frozen=True)
class _Part:
    """A part of a spec that has fields of its own."""

    kind: type[Limits] | type[Isolation]

    def problems(self, value: object) -> rules.Problems:
        """Yield what is wrong with each of its fields."""
        if not isinstance(value, self.kind):
            return [("", f"must be {self.kind.__name__}, not {rules.kind(value)}")]
        return value.problems()

    def schema(self) -> rules.Schema:
        """Return a reference to the schema of the part, which is made from its own rules."""
        return {"$ref": f"#/components/schemas/{self.kind.__name__}"}


class _Stdin:
    """Bytes or a file; in JSON, a text or bytes in base64."""

    def problems(self, value: object) -> rules.Problems:
        """Return what is wrong with a value."""
        if isinstance(value, bytes | Path | StoredStdin):
            return []
        return [("", f"must be bytes or a Path, not {rules.kind(value)}")]

    def schema(self) -> rules.Schema:
        """Return the schema of the JSON form."""
        return rules.bytes_schema()


RULES: Mapping[str, rules.Rule] = {
    "command": rules.Text(empty=False, most_bytes=MAX_STRING),
    "args": rules.Texts(most_bytes=MAX_STRING),
    "env": rules.TextMapping(most_bytes=MAX_STRING),
    "cwd": rules.AbsolutePath(most_bytes=limits.MAX_PATH),
    "stdin": _Stdin(),
    "name": rules.Text(empty=False, longest=MAX_NAME),
    "labels": rules.TextMapping(most=MAX_LABELS, longest=MAX_NAME),
    "timeout": rules.Seconds(zero=False),
    "stop_signal": rules.Signal(),
    "stop_grace": rules.Seconds(),
    "separate_stderr": rules.Flag(),
    "limits": _Part(Limits),
    "isolation": _Part(Isolation),
    "output_limit": rules.Size(),
    "priority": queueing.Priority(),
    "hold": rules.Flag(),
    "start_after": queueing.Moment(),
    "lock": queueing.Lock(),
    "after": after.Dependencies(),
}
"""The rule of each field. None is the default of the fields that take it, and needs no rule."""

_DEFAULTS = {each.name: each.default for each in fields(JobSpec)}  # of some it is MISSING
DEFAULT = JobSpec("-")
