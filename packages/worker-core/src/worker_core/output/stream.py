"""A job's output for readers: what is kept of it, any part of it, and the rest as it grows."""

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

_SILENCE = 30.0  # seconds after which a follower looks again by itself


class Outputs:
    """The output of every job of a state directory. `get` returns a job or raises JobNotFound."""

    def __init__(self, state_dir: str, get: Callable[[str], Job]) -> None:
        self._state_dir = state_dir
        self._get = get
        self._watches = Watches()

    def info(self, job_id: str, stream: str) -> OutputInfo:
        """Return what is kept of a stream."""
        job = self._get(job_id)
        if stream not in jobdir.STREAMS:
            raise InvalidRequest(f"{stream!r} is no stream; there are stdout and stderr")
        if stream == "stderr" and not job.spec.separate_stderr:
            raise StreamNotSeparate(job.id)
        directory = JobDir(self._state_dir, job.id)
        path = directory.stream(stream)
        start = directory.starts().get(stream, 0)
        return OutputInfo(spool.size(path), start, Path(path), job.state.final)

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
        first = self.info(job_id, stream)
        offset = max(offset, first.start)  # a gap at the beginning is none: output_info tells of it
        with self._watches.on(str(first.path)) as watch:
            touches = -1
            due = _due(heartbeat)
            while True:
                seen = watch.changes
                # In this order: what is final now cannot grow any more, so a read that comes
                # after and finds nothing has found the end. The record is read only when it has
                # changed: hundreds may follow one job, and wake for each of its lines.
                if touches != watch.touches:
                    touches = watch.touches
                    info = self.info(job_id, stream)
                at, chunk = self._next(job_id, stream, info, offset, watch)
                if chunk:
                    if at > offset and on_gap is not None:
                        on_gap(offset, at)
                    offset = at + len(chunk)
                    yield chunk
                    due = _due(heartbeat)
                    continue
                if info.final:
                    if offset < info.size:  # it was removed meanwhile, which this raises
                        self._get(job_id)
                    return
                watch.wait(seen, due - time.monotonic())
                if time.monotonic() >= due:
                    due = _due(heartbeat)
                    if heartbeat is not None:
                        yield b""

    def touch(self, job_id: str) -> None:
        """Wake whoever follows a job: it has started, or it has ended."""
        directory = JobDir(self._state_dir, job_id)
        for stream in jobdir.STREAMS:
            self._watches.touch(directory.stream(stream))

    def close(self) -> None:
        """Let go of the kernel's watches, and wake everybody once."""
        self._watches.close()

    def _next(
        self, job_id: str, stream: str, info: OutputInfo, offset: int, watch: Watch
    ) -> tuple[int, bytes]:
        """Return the next chunk that can be read now, after its offset."""

        def read(offset: int) -> tuple[int, bytes]:
            while chunk := spool.read(str(info.path), offset, spool.CHUNK):
                kept = JobDir(self._state_dir, job_id).starts().get(stream, 0)
                if offset >= kept:
                    break
                offset = kept  # given back while it was read
            return offset, chunk

        offset = max(offset, info.start)
        return read(offset) if info.final else watch.read(offset, read)


def _due(heartbeat: float | None) -> float:
    return time.monotonic() + (_SILENCE if heartbeat is None else heartbeat)
