"""JobHandle: one job of a client, with the client's verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from worker_cli.client import Client
    from worker_cli.job import JobRecord, JobStatus
    from worker_cli.output import Output


class JobHandle:
    """A job on the server. It contains only the id; each method sends a request.

    The methods are described at the methods of Client that have the same name, and raise the same
    errors.
    """

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self.id = job_id
        """The full id, with which the job can be found again later: `client.job(id)`."""

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"

    def status(self) -> JobStatus:
        """Return the job's present state."""
        return self._client.status(self.id)

    def record(self) -> JobRecord:
        """Return the full record, as `Client.get` does."""
        return self._client.get(self.id)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until the job has ended, at most `timeout` seconds; return its state then."""
        return self._client.wait(self.id, timeout)

    def output(self, *, stream: str = "stdout", offset: int = 0, tail: int | None = None) -> bytes:
        """Return the output so far."""
        return self._client.output(self.id, stream=stream, offset=offset, tail=tail)

    def follow(
        self,
        *,
        stream: str = "stdout",
        offset: int = 0,
        tail: int | None = None,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Output:
        """Return the output as chunks, until the job has ended."""
        return self._client.follow(self.id, stream=stream, offset=offset, tail=tail, on_gap=on_gap)

    def kill(
        self,
        *,
        signal: str | int | None = None,
        grace: float | None = None,
        now: bool = False,
        reason: str | None = None,
        wait: float = 10.0,
    ) -> str:
        """Kill the job and everything it started; return its status."""
        return self._client.kill(
            self.id, signal=signal, grace=grace, now=now, reason=reason, wait=wait
        )

    def signal(self, signal: str | int) -> str:
        """Send a signal to the job's processes; return its status."""
        return self._client.signal(self.id, signal)

    def update(
        self,
        *,
        priority: int | None = None,
        hold: bool | None = None,
        start_after: datetime | None = None,
    ) -> JobRecord:
        """Change what the job waits for; return its record."""
        return self._client.update(self.id, priority=priority, hold=hold, start_after=start_after)

    def hold(self) -> JobRecord:
        """Keep the job from starting."""
        return self._client.hold(self.id)

    def release(self) -> JobRecord:
        """Let the job start."""
        return self._client.release(self.id)

    def remove(self) -> None:
        """Delete the record and the output of the job, which must have ended."""
        self._client.remove(self.id)
