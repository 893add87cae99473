"""After: a job must reach a state before another job may start. Part of a JobSpec."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from worker_core.model.errors import echo, name_echo

Problems = Iterator[tuple[str, str]]  # (path below the field, what is wrong with it)

MAX_AFTER = 1000  # dependencies of one job
_LONGEST_ID = 64  # characters; a UUID and the index of an array's element
_ID = re.compile(
    f"[!-~]{{1,{_LONGEST_ID}}}"
)  # what an id could look like; whose it is, the store knows


class When(enum.Enum):
    """What the other job must have reached; the value is the word in the API."""

    SUCCESS = "success"
    """It completed."""
    FAILURE = "failure"
    """It was started and did not complete."""
    END = "end"
    """It ended, however it did."""
    START = "start"
    """It was started."""


_WORDS = ", ".join(each.value for each in When)


@dataclass(frozen=True)
class After:
    """One dependency: the job starts only when `job` has reached `when`."""

    job: str
    """The id of the other job, which has the same owner; it may have ended already."""
    when: When = When.SUCCESS

    def problems(self) -> Problems:
        """Yield the faults of each field; accepts values of any type."""
        job: object = self.job
        when: object = self.when
        if not isinstance(job, str):
            yield ".job", "must be the id of a job"
        elif not _ID.fullmatch(job):
            yield ".job", f"must be the id of a job, of 1 to {_LONGEST_ID} characters"
        if not isinstance(when, When):
            yield ".when", f"must be one of {_WORDS}, not {echo(when)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"job": self.job, "when": self.when.value}


def all_problems(value: object) -> Problems:
    """Yield the faults of a list of dependencies; accepts values of any type."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        yield "", "must be a list of objects with a job and a when"
        return
    if len(value) > MAX_AFTER:
        yield "", f"must name at most {MAX_AFTER} jobs, not {len(value)}"
        return
    for at, each in enumerate(value):
        if isinstance(each, After):
            for path, why in each.problems():
                yield f"[{at}]{path}", why
        else:
            yield f"[{at}]", "must be an object with a job and a when"


class Dependencies:
    """The rule for a list of dependencies."""

    def problems(self, value: object) -> Problems:
        """Yield what is wrong with each."""
        return all_problems(value)

    def schema(self) -> dict[str, Any]:
        """Return the schema of the JSON form."""
        words = [each.value for each in When]
        properties = {
            "job": {"type": "string", "pattern": f"^{_ID.pattern}$"},
            "when": {"type": "string", "enum": words, "default": When.SUCCESS.value},
        }
        one = {"type": "object", "properties": properties, "required": ["job"]}
        items = one | {"additionalProperties": False}
        return {"type": "array", "maxItems": MAX_AFTER, "items": items}


def from_list(value: object) -> tuple[After, ...]:
    """Make dependencies from their JSON form.

    Raise ValueError if it is not a list of objects, and KeyError with the name of an unknown field.
    `all_problems` checks the values. If a dependency occurs twice, it counts once.
    """
    if not isinstance(value, list):
        raise ValueError("must be a list of objects with a job and a when")
    return tuple(dict.fromkeys(_one(at, each) for at, each in enumerate(value)))


def _one(at: int, value: object) -> After:
    if not isinstance(value, dict):
        raise ValueError(f"[{at}] must be an object with a job and a when")
    for name in value:
        if name not in ("job", "when"):
            raise KeyError(f"[{at}].{name_echo(name)}: unknown field; known are job, when")
    if "job" not in value:
        raise ValueError(f"[{at}].job: required")
    job, when = value["job"], value.get("when", When.SUCCESS.value)
    if not isinstance(job, str):
        raise ValueError(f"[{at}].job: must be the id of a job")
    try:
        return After(job, When(when))
    except ValueError:
        raise ValueError(f"[{at}].when: must be one of {_WORDS}, not {echo(when)}") from None
