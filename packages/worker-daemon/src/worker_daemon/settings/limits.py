"""The setting `limits`: what jobs may use by default and at most, for all users and for each.

[limits.default]              # for a job that sets no limit of its own
memory = "1GiB"
[limits.max]                  # the maximum, and the limit of a job without another one
memory = "8GiB"
io = { write = "100MiB" }
output_limit = "10GiB"        # a field of the job object outside its limits
[limits.users.alice.max]      # for one user; overrides single values of the above
memory = "unlimited"
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from worker_daemon import errors
from worker_daemon.settings import units

if TYPE_CHECKING:
    import worker_core

UNLIMITED = "unlimited"
BEST_EFFORT = "best_effort"

_Fault = tuple[str, str]  # path below the setting, what is wrong there
_Values = dict[str, float]  # by the names of AMOUNTS; infinite for "unlimited"


class LimitKind(NamedTuple):
    """How a limit is read from the settings and printed, and what it means."""

    read: Callable[[object], float]
    text: Callable[[float], str]
    doc: str


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {value!r}")
    return value


def _cpus(value: object) -> float:
    number = _number(value)
    if not 0.01 <= number <= 1 << 62:
        raise ValueError(f"must be at least 0.01, not {value!r}")
    return number


def _bytes(value: float) -> str:
    return units.size_text(int(value))


# With a smaller maximum no program would start: it would not fit into memory, could not open its
# libraries, or would be read from the disk for hours.
AMOUNTS: Mapping[str, LimitKind] = {
    "memory": LimitKind(
        units.Size(1 << 20), _bytes, "Memory of all processes; none of it is swapped out."
    ),
    "cpus": LimitKind(_cpus, str, "Processors' worth of time, as in 1.5."),
    "pids": LimitKind(units.count(1), str, "Processes and threads at a time."),
    "io.read": LimitKind(units.Size(4096), _bytes, "Bytes a second read from the disk."),
    "io.write": LimitKind(units.Size(4096), _bytes, "Bytes a second written to the disk."),
    "cpu_time": LimitKind(units.Duration(0.01), units.duration_text, "CPU time of each process."),
    "open_files": LimitKind(units.count(4), str, "Open files of each process."),
    "file_size": LimitKind(
        units.Size(1), _bytes, "Size of each file written, the output included."
    ),
}
"""What can be limited, by its path in the job object's `limits`."""

FIELDS: Mapping[str, LimitKind] = {
    "output_limit": LimitKind(
        units.Size(1),
        _bytes,
        "Bytes of output kept of a job. 0, which keeps all, is refused.",
    ),
    "timeout": LimitKind(units.Duration(0.01), units.duration_text, "Seconds that a job runs."),
    "stop_grace": LimitKind(
        units.Duration(0), units.duration_text, "Seconds between the stop signal and SIGKILL."
    ),
}
"""Other fields of a job object that can have a maximum, by name."""


@dataclasses.dataclass(frozen=True)
class UserLimits:
    """The limits for the jobs of one user, or in one table of the settings."""

    default: Mapping[str, float] = dataclasses.field(default_factory=dict)
    most: Mapping[str, float] = dataclasses.field(default_factory=dict)
    best_effort: bool | None = None
    """Whether jobs run although this machine cannot enforce one of their limits."""
    fields: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Maxima, by the names of FIELDS."""

    def below(self, other: UserLimits) -> UserLimits:
        """Return these limits, completed with those of `other`."""
        return UserLimits(
            {**other.default, **self.default},
            {**other.most, **self.most},
            other.best_effort if self.best_effort is None else self.best_effort,
            {**other.fields, **self.fields},
        )

    def most_of(self, name: str) -> float:
        """Return the maximum of one of FIELDS; infinite if there is none."""
        return self.fields.get(name, math.inf)

    def check(self, name: str, value: float) -> list[worker_core.FieldError]:
        """Return a fault if a value is over the maximum of one of FIELDS."""
        import worker_core

        most = self.most_of(name)
        unlimited = name == "output_limit" and not value
        if value <= most and not (unlimited and math.isfinite(most)):
            return []
        no_limit = " and not 0, which is no limit" if unlimited else ""
        text = f"must be at most {FIELDS[name].text(most)}{no_limit}"
        return [worker_core.FieldError(name, f"{text}, {_yours(name)}")]

    def completed(self, spec: worker_core.JobSpec, output_limit: int) -> worker_core.JobSpec:
        """Return a job in which each of FIELDS is set and within its maximum.

        A field that is not set gets the maximum. `output_limit` is the setting of that name. Raises
        InvalidSpec, which names every value over its maximum.
        """
        import worker_core

        faults: list[worker_core.FieldError] = []
        changes: dict[str, Any] = {}
        for name, most in self.fields.items():
            value = getattr(spec, name)
            if value is not None:
                faults += self.check(name, value)
            elif math.isfinite(most):
                whole = name == "output_limit"
                changes[name] = min(int(most), output_limit or int(most)) if whole else most
        if self.most_of("stop_grace") < spec.stop_grace == worker_core.JobSpec.stop_grace:
            # The job has the default, and did not ask for it.
            faults = [each for each in faults if each.field != "stop_grace"]
            changes["stop_grace"] = self.most_of("stop_grace")
        if faults:
            raise worker_core.InvalidSpec(faults)
        return dataclasses.replace(spec, **changes) if changes else spec

    def applied(self, requested: worker_core.Limits) -> worker_core.Limits:
        """Return the limits of a job that asks for `requested`.

        A maximum of the administrator is enforced, or the job is refused: `best_effort` of the job
        does not apply to it. Raises InvalidSpec, which names every limit over its maximum.
        """
        import worker_core

        if not (self.default or self.most or self.best_effort):
            return requested
        most = {name: value for name, value in self.most.items() if math.isfinite(value)}
        wanted = flat(requested)
        over = [
            worker_core.FieldError(
                f"limits.{name}",
                f"must be at most {AMOUNTS[name].text(most[name])}, {_yours(name)}",
            )
            for name, value in wanted.items()
            if value > most.get(name, math.inf)
        ]
        if over:
            raise worker_core.InvalidSpec(over)
        default = {
            name: min(value, most.get(name, math.inf))
            for name, value in {**most, **self.default}.items()
        }
        given = {name: value for name, value in default.items() if math.isfinite(value)}
        best_effort = bool(self.best_effort) or (requested.best_effort and not most)
        return _nested({**given, **wanted}, best_effort=best_effort)


@dataclasses.dataclass(frozen=True)
class LimitPolicy:
    """The setting `limits`: the limits for everybody, and exceptions for single users."""

    everybody: UserLimits = dataclasses.field(default_factory=UserLimits)
    users: Mapping[str, UserLimits] = dataclasses.field(default_factory=dict)

    def of(self, user: str) -> UserLimits:
        """Return the limits for the jobs of a user."""
        return self.users.get(user, UserLimits()).below(self.everybody)

    def bounded(
        self, spec: worker_core.JobSpec, user: str, output_limit: int = 0
    ) -> worker_core.JobSpec:
        """Return a user's job with its limits; raises InvalidSpec for values over a maximum.

        `output_limit` is the setting of that name, for a job that does not set one.
        """
        own = self.of(user)
        limits = own.applied(spec.limits)
        spec = spec if limits == spec.limits else dataclasses.replace(spec, limits=limits)
        return own.completed(spec, output_limit) if own.fields else spec


def _yours(name: str) -> str:
    return f"your maximum on this server (its setting limits.max.{name})"


def flat(limits: worker_core.Limits) -> _Values:
    """Return the limits that are set, by the names of AMOUNTS."""
    set_ = limits.to_dict()
    set_.pop(BEST_EFFORT, None)
    io = {f"io.{name}": value for name, value in set_.pop("io", {}).items()}
    return set_ | io


def _nested(values: Mapping[str, float], *, best_effort: bool) -> worker_core.Limits:
    import worker_core

    made: dict[str, object] = {BEST_EFFORT: best_effort}
    io = {name.removeprefix("io."): each for name, each in values.items() if name[:3] == "io."}
    made |= {name: each for name, each in values.items() if name[:3] != "io."}
    return worker_core.Limits(**(made | ({"io": io} if io else {})))  # type: ignore[arg-type]


# Reading the setting


def read(value: object) -> LimitPolicy:
    """Read the setting; raises SettingError with all its faults."""
    faults: list[_Fault] = []
    given = _tables(value, "", ("default", "max", "users"), faults)
    everybody = _user_limits(given, "", faults)
    users = {}
    for name, table in _tables(given.get("users", {}), ".users", None, faults).items():
        path = f".users.{_key(name)}"
        users[name] = _user_limits(_tables(table, path, ("default", "max"), faults), path, faults)
    faults += _contradictions("", everybody.default, everybody.most)
    for name, own in users.items():
        faults += _contradictions(f".users.{_key(name)}", own.default, own.below(everybody).most)
    if faults:
        raise errors.SettingError(faults)
    return LimitPolicy(everybody, users)


def _contradictions(
    path: str, default: Mapping[str, float], most: Mapping[str, float]
) -> Iterator[_Fault]:
    for name, value in default.items():
        if value > most.get(name, math.inf):
            text = AMOUNTS[name].text(most[name])
            yield f"{path}.default.{name}", f"must be at most {text}, the maximum"


def _user_limits(table: Mapping[str, object], path: str, faults: list[_Fault]) -> UserLimits:
    given = _table(table.get("default", {}), f"{path}.default", faults)
    best_effort = given.pop(BEST_EFFORT, None)
    if best_effort is not None and not isinstance(best_effort, bool):
        faults.append((f"{path}.default.{BEST_EFFORT}", "must be true or false"))
        best_effort = None
    default = _amounts(given, f"{path}.default", faults)
    most = _table(table.get("max", {}), f"{path}.max", faults)
    if BEST_EFFORT in most:
        del most[BEST_EFFORT]
        faults.append((f"{path}.max.{BEST_EFFORT}", "is not a limit; it belongs in default"))
    fields = _amounts(
        {name: most.pop(name) for name in FIELDS if name in most}, f"{path}.max", faults
    )
    return UserLimits(default, _amounts(most, f"{path}.max", faults), best_effort, fields)


def _amounts(table: Mapping[str, object], path: str, faults: list[_Fault]) -> _Values:
    values = {}
    known = {**AMOUNTS, **FIELDS} if path.endswith(".max") else AMOUNTS
    io = _table(table.get("io", {}), f"{path}.io", faults)
    given = {name: each for name, each in table.items() if name != "io"}
    for name, value in {**given, **{f"io.{each}": io[each] for each in io}}.items():
        if name not in known:
            faults.append((f"{path}.{_key(name)}", f"is not a limit; known: {', '.join(known)}"))
            continue
        try:
            values[name] = math.inf if value == UNLIMITED else known[name].read(value)
        except ValueError as error:
            faults.append((f"{path}.{name}", str(error)))
    return values


def _tables(
    value: object, path: str, known: tuple[str, ...] | None, faults: list[_Fault]
) -> dict[str, object]:
    table = _table(value, path, faults)
    for name in [name for name in table if known is not None and name not in known]:
        del table[name]
        message = f"is not known here; known: {', '.join(known or ())}"
        faults.append((f"{path}.{_key(name)}", message))
    return table


def _table(value: object, path: str, faults: list[_Fault]) -> dict[str, object]:
    if isinstance(value, dict):
        return dict(value)
    faults.append((path, f"must be a table, not {value!r}"))
    return {}


def _key(name: str) -> str:
    """Return a key as TOML writes it."""
    return name if re.fullmatch(r"[\w.-]+", name, re.ASCII) else json.dumps(name)
