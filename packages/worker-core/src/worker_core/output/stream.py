"""A job's output for readers: what is kept, any part of it, and what is still to come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from worker_core.disk import jobdir
from worker_core.disk.jobdir import JobDir
from worker_core.model.errors import InvalidRequest, StreamNotSeparate
from worker_core.model.job import Job
from worker_core.output import spool
from worker_core.output.inotify import Watch, Watches
from worker_core.output.spool import OutputInfo

_SILENCE = 30.0  # seconds after which a follower looks again without being woken


class Outputs:
    """The output of every job of a state directory. `get` returns a job or raises JobNotFound."""

    def __init__(self, state_dir: str, get: Callable[[str], Job]) -> None:
        self._state_dir = state_dir
        self._get = get
        self._watches = Watches()

    def info(self, job_id: str, stream: str) -> OutputInfo:
        """Return what is kept of a stream."""
        job = self._get(job_id)
        path = self._path(job, stream)
        start = JobDir(self._state_dir, job_id).starts().get(stream, 0)
        return OutputInfo(spool.size(path), start, Path(path), job.state.final)

    def _path(self, job: Job, stream: str) -> str:
        """Return the path of a stream's spool file; raise InvalidRequest or StreamNotSeparate."""
        if stream not in jobdir.STREAMS:
            raise InvalidRequest(f"invalid stream {stream!r}: must be stdout or stderr")
        if stream == "stderr" and not job.spec.separate_stderr:
            raise StreamNotSeparate(job.id)
        return JobDir(self._state_dir, job.id).stream(stream)

    def read(self, job_id: str, stream: str, offset: int, limit: int | None) -> bytes:
        """Return bytes from `offset`, or from the first byte still kept if that is later."""
        info = self.info(job_id, stream)
        offset = max(offset, info.start)
        length = max(info.size - offset, 0)
        return spool.read(str(info.path), offset, length if limit is None else min(limit, length))

    def open(self, job_id: str, stream: str) -> BinaryIO:
        """Return the spool file, unbuffered; an empty one if nothing was written yet."""
        path = self.info(job_id, stream).path
        try:
            return open(path, "rb", buffering=0)
        except FileNotFoundError:
            return open(os.devnull, "rb", buffering=0)

    def tail_offset(
        self, job_id: str, stream: str, lines: int, on_block: Callable[[], None]
    ) -> int:
        """Return the offset at which the last `lines` lines begin."""
        info = self.info(job_id, stream)
        return spool.tail_offset(str(info.path), info.start, info.size, lines, on_block)

    def follow(
        self,
        job_id: str,
        stream: str,
        offset: int,
        *,
        heartbeat: float | None,
        on_gap: Callable[[int, int], None] | None,
    ) -> Iterator[bytes]:
        """Yield a stream as it grows, until the job has ended and every byte was yielded."""
        self._path(self._get(job_id), stream)  # refuse now, not at the first chunk
        return self._follow(job_id, stream, offset, heartbeat, on_gap)

    def _follow(
        self,
        job_id: str,
        stream: str,
        offset: int,
        heartbeat: float | None,
        on_gap: Callable[[int, int], None] | None,
    ) -> Iterator[bytes]:
        with self._watches.on(JobDir(self._state_dir, job_id).stream(stream)) as watch:
            info, touches = None, 0
            due = _due(heartbeat)
            while True:
                # The order matters: first the number of changes, then whether the job has ended,
                # then the read. A final output cannot grow, so a read that comes after and finds
                # nothing has found the end. The record is read only when it has changed, because
                # hundreds of threads may follow one job and wake up for each of its lines.
                seen = watch.changes
                if info is None or touches != watch.touches:
                    touches = watch.touches
                    first, info = info is None, self.info(job_id, stream)
                    if first:  # output that was deleted before this call is not a gap
                        offset = max(offset, info.start)
                at, chunk = self._next(job_id, stream, info, offset, watch)
                if chunk:
                    if at > offset and on_gap is not None:
                        on_gap(offset, at)
                    offset = at + len(chunk)
                    yield chunk
                    due = _due(heartbeat)
                    continue
                if info.final:
                    if offset < info.size:  # the job was removed meanwhile: raise JobNotFound
                        self._get(job_id)
                    return
                watch.wait(seen, due - time.monotonic())
                if time.monotonic() >= due:
                    due = _due(heartbeat)
                    if heartbeat is not None:
                        yield b""

    def touch(self, job_id: str) -> None:
        """Wake the followers of a job, because it has started or ended."""
        directory = JobDir(self._state_dir, job_id)
        for stream in jobdir.STREAMS:
            self._watches.touch(directory.stream(stream))

    def close(self) -> None:
        """Release the kernel's watches, and wake every follower once."""
        self._watches.close()

    def _next(
        self, job_id: str, stream: str, info: OutputInfo, offset: int, watch: Watch
    ) -> tuple[int, bytes]:
        """Return the offset and the bytes of the next chunk; no bytes if there are none yet."""

        def read(offset: int) -> tuple[int, bytes]:
            while chunk := spool.read(str(info.path), offset, spool.CHUNK):
                kept = JobDir(self._state_dir, job_id).starts().get(stream, 0)
                if offset >= kept:
                    break
                offset = kept  # these bytes were deleted while they were read
            return offset, chunk

        offset = max(offset, info.start)
        return read(offset) if info.final else watch.read(offset, read)


def _due(heartbeat: float | None) -> float:
    return time.monotonic() + (_SILENCE if heartbeat is None else heartbeat)
