"""What the server says of a job, as frozen values."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

LIVE = ("queued", "running", "stopping")
FINAL = ("completed", "skipped", "failed", "killed", "timed_out", "out_of_memory", "lost")


@dataclass(frozen=True)
class Usage:
    """What a job has used up to now, or used in all: seconds and bytes, None where not counted."""

    wall_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    max_rss_bytes: int | None = None
    read_bytes: int | None = None
    """From disks; this and what follows only where the server counts them with a cgroup."""
    written_bytes: int | None = None
    max_processes: int | None = None


@dataclass(frozen=True)
class JobStatus:
    """The state of a job at the moment of the answer; it does not change by itself.

    Times are aware datetimes in UTC, `signal` is a Linux signal number. A field that the server
    does not know, or did not know when it was written, is None.
    """

    id: str
    status: str
    """One of LIVE or FINAL; a newer server may know more words."""
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    killed_by: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration: float | None = None
    """Seconds that it has run up to now, or ran. The server has measured them: they hold also
    where its clock was set in between. None for what has not started, or was not measured."""
    usage: Usage | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The server's answer as it came, for fields that are not here yet."""

    @property
    def ended(self) -> bool:
        """Whether the job has ended; its status will not change any more."""
        return self.ended_at is not None or self.status in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether the job ended by itself with exit code 0."""
        return self.status == "completed"

    @property
    def outcome(self) -> str:
        """What is to be said besides the word: "exit code 3", "by ann"; empty when nothing is."""
        word = self.status.replace("_", " ")
        if self.reason:
            return self.reason.removeprefix(word).lstrip(" :") or self.reason
        if self.signal is not None:
            return signal_name(self.signal)
        if self.exit_code is not None:
            return f"exit code {self.exit_code}"
        return f"by {self.killed_by}" if self.killed_by else ""

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Self:
        """Make it from the server's answer; fields that are not known here stay in `raw`."""
        return cls(raw=answer, **_fields(answer))


@dataclass(frozen=True)
class JobRecord(JobStatus):
    """The whole record of a job: its status, whose it is, and what was asked for."""

    owner: str | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    """The job object as the server keeps it, its default limits included."""
    run_as: str | None = None
    """The Unix account that it runs as; None is the server's own."""
    enforced: Mapping[str, str | None] = field(default_factory=dict)
    """For each limit what enforces it, "cgroup" or "rlimit"; None is nothing. Empty before the
    start."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command and its arguments."""
        return (str(self.spec.get("command", "")), *map(str, self.spec.get("args") or ()))

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Self:
        """Make it from the server's answer."""
        more: dict[str, Any] = {
            "owner": answer.get("owner"),
            "spec": answer.get("spec") or {},
            "run_as": answer.get("run_as"),
            "enforced": answer.get("enforced") or {},
        }
        return cls(raw=answer, **more, **_fields(answer))


def _fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    names = ("exit_code", "signal", "reason", "killed_by")
    found = {name: answer.get(name) for name in names}
    found["duration"] = _duration(answer)
    found |= {name: _time(answer.get(name)) for name in ("created_at", "started_at", "ended_at")}
    usage = answer.get("usage") or {}
    known = {name: usage[name] for name in Usage.__dataclass_fields__ if name in usage}
    found["usage"] = Usage(**known) if known else None
    return found | {"id": str(answer["id"]), "status": str(answer["status"])}


def _duration(answer: Mapping[str, Any]) -> float | None:
    # A server of 0.1.0 measures only the duration of what has ended.
    found = answer.get("duration", (answer.get("usage") or {}).get("wall_seconds"))
    return float(found) if isinstance(found, int | float) else None


def _time(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def signal_name(number: int) -> str:
    """Return "SIGTERM" for 15, "SIGRTMIN+3" for 37, and "signal 99" for what has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        return f"signal {number}"
