"""Small files: written whole or not at all, with their mode from the first instant; and read."""

from __future__ import annotations

import contextlib
import os

_CHUNK = 1 << 16
PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700


def read(path: str) -> bytes:
    """Return what a file holds; `open` would ask the kernel five more questions about it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while part := os.read(fd, _CHUNK):
            data += part
        return data
    finally:
        os.close(fd)


def create(path: str, data: bytes, *, sync: bool = False) -> None:
    """Create `path` (mode 0600) with `data`; raise FileExistsError if it is there already.

    The file may be seen half written: for claims, where the name is what matters. If it cannot be
    written it is not there.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        _write_all(fd, data)
        if sync:
            os.fsync(fd)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def replace(path: str, data: bytes, *, sync: bool) -> None:
    """Put `data` at `path` (mode 0600) in one step, replacing what was there.

    With `sync` it is on the disk on return; without, it survives the end of this process but
    perhaps not of the machine.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        create(temporary, data, sync=sync)
    except FileExistsError:  # of one that had our pid, and ended right here
        os.unlink(temporary)
        create(temporary, data, sync=sync)
    try:
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        sync_dir(os.path.dirname(path))


def sync_dir(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
