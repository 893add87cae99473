"""The errors of worker_core: one base, and a subclass only where a caller acts on it.

`str(error)` is always a sentence for people: what could not be done, why, and the cure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker_core.model.job import Job


class WorkerError(Exception):
    """Base of all errors that worker_core raises on purpose."""


MOST_FAULTS = 50
"""The most faults of one request that are reported; further ones are not even looked for."""

_LONGEST_ECHO = 100  # characters of a value that a message quotes


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a job object; `field` is its path, as in `args[2]`."""

    field: str
    message: str


def echo(value: object) -> str:
    """Return a value as a message quotes it: whole if it is short, else its beginning."""
    if isinstance(value, str) and len(value) > _LONGEST_ECHO:
        return f"{value[:_LONGEST_ECHO]!r}… ({len(value)} characters)"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value)


def name_echo(name: object) -> str:
    """Return a field's name as a message quotes it: whole if it is short, else its beginning."""
    text = str(name)
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}…"


class InvalidSpec(WorkerError, ValueError):
    """A job object that cannot be accepted; `errors` names every field that is wrong."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{each.field}: {each.message}" for each in self.errors))


class InvalidRequest(WorkerError, ValueError):
    """An argument of an engine call that cannot be accepted."""


class JobNotFound(WorkerError, LookupError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"no job with id {job_id}")


class JobNotRunning(WorkerError):
    """The job has already ended, or has not started yet; `job` is its record."""

    def __init__(self, job: Job) -> None:
        self.job = job
        if job.state.value == "queued":
            super().__init__(f"job {job.id} is still queued; it is not running yet")
        else:
            super().__init__(f"job {job.id} has already {job.summary()}")


class JobNotWaiting(WorkerError):
    """The job has started or ended, so that what it waits for cannot be changed; see `job`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        if job.state.final:
            came_to = f"has already {job.summary()}"
        else:
            state = job.state.value
            came_to = "is being started" if state == "queued" else f"is {state}"
        super().__init__(f"job {job.id} {came_to}; only a job that waits can be changed")


class JobNotFinished(WorkerError):
    """The request needs a job that has ended, and this one has not; `job` is its record."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id} is {job.state.value}; kill it first, or wait for its end")


class JobNeeded(WorkerError):
    """The job cannot be removed, because another one waits for it."""

    def __init__(self, job_id: str, dependent: str) -> None:
        super().__init__(
            f"job {job_id} is needed: job {dependent} waits for it; kill that first, or wait"
        )


class IdempotencyKeyReused(WorkerError):
    """The idempotency key was used before, with a different job object."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"the idempotency key {key!r} was used for a different job; use a new key for a new job"
        )


class QueueFull(WorkerError):
    """As many jobs are queued as the settings allow."""


class StoreUnavailable(WorkerError):
    """The database could not be written; nothing was accepted."""


class ExecutorUnavailable(WorkerError):
    """The supervisor could not be reached or started."""


class StreamNotSeparate(WorkerError):
    """The job writes its stderr to its stdout, so there is no separate stderr to read."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"job {job_id} was not run with separate_stderr: its stderr is part of its output"
        )


class StateDirInUse(WorkerError):
    """Another engine has this state directory open."""


class EngineClosed(WorkerError):
    """The engine was closed."""
