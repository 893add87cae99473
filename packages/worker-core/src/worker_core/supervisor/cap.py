"""Giving the oldest bytes of a job's output back to the file system."""

from __future__ import annotations

import os

from worker_core.disk import jobdir
from worker_core.linux import libc

_BLOCK = 1 << 16  # holes end at a multiple of this


def bound(directory: jobdir.JobDir, stream: str, limit: int) -> int:
    """Keep at least the newest `limit` bytes of a stream, and hardly more; return its size."""
    size = directory.stream_size(stream)
    starts = directory.starts() if size > limit else {}
    start = (size - limit) // _BLOCK * _BLOCK
    if start <= starts.get(stream, 0):
        return size
    directory.write_start(starts | {stream: start})
    fd = directory.open_stream(stream, flags=0)
    try:
        libc.punch_hole(fd, 0, start)
    finally:
        os.close(fd)
    return size
