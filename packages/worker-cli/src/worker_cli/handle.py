"""JobHandle: one job of a client, with the client's verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.job import JobRecord, JobStatus
    from worker_cli.output import Output


class JobHandle:
    """A job on the server. It holds the id and nothing else; each method asks the server.

    The methods do and raise what the client's of the same name do, and are described there.
    """

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self.id = job_id
        """The whole id, by which the job can be found again later: `client.job(id)`."""

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"

    def status(self) -> JobStatus:
        """Return its state now."""
        return self._client.status(self.id)

    def record(self) -> JobRecord:
        """Return its whole record, as `Client.get` does."""
        return self._client.get(self.id)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until it has ended, or `timeout` seconds; return its state then."""
        return self._client.wait(self.id, timeout)

    def output(self, *, stream: str = "stdout", offset: int = 0, tail: int | None = None) -> bytes:
        """Return the output that there is now."""
        return self._client.output(self.id, stream=stream, offset=offset, tail=tail)

    def follow(
        self,
        *,
        stream: str = "stdout",
        offset: int = 0,
        tail: int | None = None,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Output:
        """Return the output as chunks until the job has ended and all was read."""
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
        """Stop it and everything it started; return its status after at most `wait` seconds."""
        return self._client.kill(
            self.id, signal=signal, grace=grace, now=now, reason=reason, wait=wait
        )

    def signal(self, signal: str | int) -> str:
        """Send it a signal; return its status."""
        return self._client.signal(self.id, signal)

    def remove(self) -> None:
        """Remove its record and output; it must have ended."""
        self._client.remove(self.id)
