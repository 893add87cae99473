"""Jobs as values: a field is declared once, and is then read from answers and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from worker_cli import job
from worker_cli.ui import render

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Usage(job.Usage):
    """What a newer server measures."""

    throttled_seconds: float | None = field(
        default=None, metadata=job._amount(job.SECONDS, "throttled")
    )


@dataclass(frozen=True)
class JobRecord(job.JobRecord):
    """What a newer server knows of a job."""

    host: str | None = field(default=None, metadata=job._read(label="on"))


def test_a_new_field_of_a_job_is_declared_once() -> None:
    """A field that is added to the class would be missing in `worker status`."""
    record = JobRecord.from_json({"id": "x", "status": "queued", "host": "node\x1b7"})
    assert record.host == "node\x1b7"
    assert "  on       node\\x1b7" in render.details(record, NOW).splitlines()


def test_a_new_field_of_the_usage_is_declared_once() -> None:
    """An amount that is added to the class would be missing in `worker status`."""
    record = JobRecord("x", "queued", usage=Usage(user_seconds=1, throttled_seconds=4.5))
    assert "  used     4.5s throttled" in render.details(record, NOW).splitlines()
