"""A job as the server describes it, as frozen values.

A field of a job or of its usage is declared here and nowhere else in the client: how it is read
from the server's answer, and how `worker status` labels it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

LIVE = ("queued", "running", "stopping")
FINAL = ("completed", "skipped", "failed", "killed", "timed_out", "out_of_memory", "lost")

SECONDS, BYTES, COUNT = "seconds", "bytes", "count"
"""The units of what a job used."""

_Reader = Callable[[Mapping[str, Any], str], Any]


def _amount(unit: str, label: str, *, label_of_one: str = "", peak: bool = False) -> dict[str, Any]:
    """Return how `worker status` shows a field of Usage; it adds up those with the same label.

    A `peak` is a maximum over time; one of 0 was not measured and is not shown.
    """
    return {"unit": unit, "label": label, "label_of_one": label_of_one or label, "peak": peak}


_CPU = _amount(SECONDS, "of CPU")
_MEMORY = _amount(BYTES, "of memory at most", peak=True)
_PROCESSES = _amount(COUNT, "processes at most", label_of_one="process", peak=True)


@dataclass(frozen=True)
class Usage:
    """What a job has used so far, or in all; a field is None when it was not measured."""

    wall_seconds: float | None = None
    user_seconds: float | None = field(default=None, metadata=_CPU)
    system_seconds: float | None = field(default=None, metadata=_CPU)
    max_rss_bytes: int | None = field(default=None, metadata=_MEMORY)
    max_processes: int | None = field(default=None, metadata=_PROCESSES)
    """This and the following are measured only where the server puts jobs into cgroups."""
    read_bytes: int | None = field(default=None, metadata=_amount(BYTES, "read"))
    """Bytes read from disks."""
    written_bytes: int | None = field(default=None, metadata=_amount(BYTES, "written"))


def _plain(answer: Mapping[str, Any], name: str) -> Any:
    return answer.get(name)


def _required(answer: Mapping[str, Any], name: str) -> str:
    return str(answer[name])


def _mapping(answer: Mapping[str, Any], name: str) -> Any:
    return answer.get(name) or {}


def _list(answer: Mapping[str, Any], name: str) -> Any:
    return tuple(answer.get(name) or ())


def _time(answer: Mapping[str, Any], name: str) -> datetime | None:
    value = answer.get(name)
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _duration(answer: Mapping[str, Any], name: str) -> float | None:
    # A server of release 0.1.0 measures only jobs that have ended.
    value = answer.get(name, _mapping(answer, "usage").get("wall_seconds"))
    return float(value) if isinstance(value, int | float) else None


def _usage(answer: Mapping[str, Any], name: str) -> Usage | None:
    amounts = _mapping(answer, name)
    known = {part.name: amounts[part.name] for part in fields(Usage) if part.name in amounts}
    return Usage(**known) if known else None


def _read(reader: _Reader = _plain, *, label: str = "") -> dict[str, Any]:
    """Return how a field is read from the answer; `worker status` shows those with a label."""
    return {"reader": reader, "label": label}


@dataclass(frozen=True)
class JobStatus:
    """The state of a job at the moment of the answer; it does not change by itself.

    Times are aware datetimes in UTC, `signal` is a Linux signal number. A field is None when the
    server does not send it, or did not know it yet.
    """

    id: str = field(metadata=_read(_required))
    status: str = field(metadata=_read(_required))
    """One of LIVE or FINAL; a newer server may have others."""
    exit_code: int | None = field(default=None, metadata=_read())
    signal: int | None = field(default=None, metadata=_read())
    reason: str | None = field(default=None, metadata=_read())
    killed_by: str | None = field(default=None, metadata=_read())
    created_at: datetime | None = field(default=None, metadata=_read(_time))
    started_at: datetime | None = field(default=None, metadata=_read(_time))
    ended_at: datetime | None = field(default=None, metadata=_read(_time))
    duration: float | None = field(default=None, metadata=_read(_duration))
    """Seconds that the job has run so far, or ran in all, as the server measured them.

    The value stays correct when the server's clock is set. None for a job that has not started.
    """
    waiting: Sequence[Mapping[str, Any]] = field(default=(), metadata=_read(_list))
    """Everything that keeps a waiting job from starting: each has at least `gate` and `text`."""
    usage: Usage | None = field(default=None, metadata=_read(_usage, label="used"))
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The server's answer, with fields that this client does not know."""

    @property
    def ended(self) -> bool:
        """Whether the job has ended; its status does not change any more."""
        return self.ended_at is not None or self.status in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether the job ended by itself with exit code 0."""
        return self.status == "completed"

    @property
    def outcome(self) -> str:
        """Details that the status does not contain, such as "exit code 3" or "by ann", or ""."""
        status = self.status.replace("_", " ")
        if self.reason:
            return self.reason.removeprefix(status).lstrip(" :") or self.reason
        if self.signal is not None:
            return signal_name(self.signal)
        if self.exit_code is not None:
            return f"exit code {self.exit_code}"
        return f"by {self.killed_by}" if self.killed_by else ""

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Self:
        """Return the value for an answer of the server; unknown fields are only in `raw`."""
        declared = [part for part in fields(cls) if "reader" in part.metadata]
        values = {part.name: part.metadata["reader"](answer, part.name) for part in declared}
        return cls(raw=answer, **values)


@dataclass(frozen=True)
class JobRecord(JobStatus):
    """The full record of a job: its status, its owner, and what was requested."""

    owner: str | None = field(default=None, metadata=_read())
    spec: Mapping[str, Any] = field(default_factory=dict, metadata=_read(_mapping))
    """The job object as the server stores it, including default limits."""
    run_as: str | None = field(default=None, metadata=_read(label="as"))
    """The Unix account that the job runs as; None is the server's own."""
    enforced: Mapping[str, str | None] = field(default_factory=dict, metadata=_read(_mapping))
    """For each limit what enforces it: "cgroup", "rlimit", or None when nothing does. Empty until
    the job has started."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command and its arguments."""
        return (str(self.spec.get("command", "")), *map(str, self.spec.get("args") or ()))


def signal_name(number: int) -> str:
    """Return "SIGTERM" for 15, "SIGRTMIN+3" for 37, and "signal 99" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        return f"signal {number}"
