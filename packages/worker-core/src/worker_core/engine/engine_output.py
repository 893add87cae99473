"""The part of the engine's façade that reads the output of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from worker_core.output.spool import OutputInfo
from worker_core.output.stream import Outputs


class OutputMethods:
    """Methods of `Engine` that read output. `stream` is "stdout" or "stderr"."""

    _outputs: Outputs

    def output_info(self, job_id: str, stream: str = "stdout") -> OutputInfo:
        """Return what is kept of a job's output. Raises JobNotFound or StreamNotSeparate."""
        return self._outputs.info(job_id, stream)

    def read_output(
        self, job_id: str, stream: str = "stdout", offset: int = 0, limit: int | None = None
    ) -> bytes:
        """Return bytes from `offset`, or from the first byte still kept if that is later."""
        return self._outputs.read(job_id, stream, offset, limit)

    def open_output(self, job_id: str, stream: str = "stdout") -> BinaryIO:
        """Return the spool file, unbuffered, for reading; empty if nothing was written yet."""
        return self._outputs.open(job_id, stream)

    def tail_offset(
        self,
        job_id: str,
        lines: int,
        stream: str = "stdout",
        *,
        on_block: Callable[[], None] = lambda: None,
    ) -> int:
        """Return the offset of the last `lines` lines, at most 256 MiB before the end.

        `on_block` is called before each 64 KiB that are searched; an exception that it raises ends
        the search.
        """
        return self._outputs.tail_offset(job_id, stream, lines, on_block)

    def follow(
        self,
        job_id: str,
        stream: str = "stdout",
        offset: int = 0,
        *,
        heartbeat: float | None = None,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Iterator[bytes]:
        """Yield the output from `offset` as it grows, up to 64 KiB at a time.

        Ends when the job has ended and every byte was yielded. With `heartbeat`, yields b"" after
        that many seconds without output. Bytes that were deleted before they were read (because of
        the output limit) are skipped: `on_gap(due, start)` is called before the first chunk after
        them; an exception that it raises ends the iteration.

        Raises JobNotFound (also later, if the job is removed) or StreamNotSeparate.
        """
        return self._outputs.follow(job_id, stream, offset, heartbeat=heartbeat, on_gap=on_gap)
