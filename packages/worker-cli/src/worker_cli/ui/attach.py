"""Follow a job from its creation to its end: for `worker run --wait`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from worker_cli import errors, exits
from worker_cli.ui import humanize, output_writer, render, terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.handle import JobHandle


def run_attached(client: Client, create: Callable[[], JobHandle], *, separate_stderr: bool) -> int:
    """Create a job, copy its output, and return the exit code for its end."""
    job = create()
    gaps = GapReporter()
    try:
        if terminal.is_terminal(sys.stderr):
            _note_queued(job)
        stderr = _Follower(job, "stderr", sys.stderr.buffer, gaps) if separate_stderr else None
        _copy_stream(job, "stdout", sys.stdout.buffer, gaps)
        if stderr:
            stderr.finish()
        return _report_end(client, job) or gaps.code
    except KeyboardInterrupt:
        _note_detached(job)
        return exits.INTERRUPTED
    except BrokenPipeError:
        if _still_runs(job):
            _note_detached(job)
        raise
    except (errors.ClientError, OSError, RuntimeError, MemoryError):
        terminal.note(f"the job may still run; to follow it again: worker out -f {job.id}")
        raise


def _note_queued(job: JobHandle) -> None:
    """Report why nothing happens yet, if the job is queued."""
    status = job.status()
    if status.status == "queued":
        why = f": {status.reason}" if status.reason else ""
        terminal.note(f"job {job.id} is queued{why}; Ctrl-C leaves it in the queue")


def _note_detached(job: JobHandle) -> None:
    terminal.note(
        f"detached; the job keeps running. To follow it again: worker out -f {job.id}; "
        f"to stop it: worker kill {job.id}"
    )


def _still_runs(job: JobHandle) -> bool:
    """Return whether the job has not ended; True if the server cannot be asked."""
    try:
        return not job.status().ended
    except errors.ClientError:
        return True


def _copy_stream(job: JobHandle, stream: str, to: BinaryIO, gaps: GapReporter) -> None:
    writer = output_writer.OutputWriter(to, allow_binary=False)
    try:
        for chunk in job.follow(stream=stream, on_gap=gaps):
            writer.write(chunk)
    except output_writer.BinaryOnTerminal:
        terminal.note(f"the output is binary; to write it to a file: worker out -o FILE {job.id}")


class _Follower:
    """Copies a second stream in a thread of its own."""

    def __init__(self, job: JobHandle, stream: str, to: BinaryIO, gaps: GapReporter) -> None:
        self._job, self._stream, self._to, self._gaps = job, stream, to, gaps
        self._error: Exception | None = None
        # A daemon thread: Ctrl-C must not wait for the job's end.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            _copy_stream(self._job, self._stream, self._to, self._gaps)
        except Exception as error:  # noqa: BLE001  # `finish` raises it in the main thread
            self._error = error

    def finish(self) -> None:
        """Wait for the end of the stream; raise the error of the thread, if there was one."""
        self._thread.join()
        if self._error:
            raise self._error


def _report_end(client: Client, job: JobHandle) -> int:
    """Print what the exit code does not show, and return the exit code."""
    status = client.wait(job.id)
    code = exits.of_job(status)
    if status.signal is not None or status.status not in ("completed", "failed"):
        terminal.note(f"job {job.id}: {render.outcome(status)}")
    if code == exits.NOT_FOUND and (hint := render.shell_hint(job.record())):
        terminal.note(hint)
    return code


class GapReporter:
    """Reports each range of output that is missing; afterwards `code` is the exit code for it."""

    def __init__(self) -> None:
        self.code = exits.DONE
        """REFUSED if bytes were missing, else DONE; for a command that has copied all the rest."""

    def __call__(self, start: int, end: int) -> None:
        """Report that bytes are missing, because the server keeps only the newest."""
        self.code = exits.REFUSED
        terminal.note(
            f"the server no longer has {humanize.size(end - start)} of output "
            f"(bytes {start} to {end}); see run --output-limit"
        )
