"""Small files: written whole or not at all, with their mode from the first instant; and read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_CHUNK = 1 << 16
PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700


def read(path: str) -> bytes:
    """Return what a file holds; `open` would ask the kernel five more questions about it.

    It waits for nobody: a FIFO that somebody has put in its place is empty.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return read_all(fd)
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    """Return what can be read from a descriptor up to its end."""
    data = b""
    while part := os.read(fd, _CHUNK):
        data += part
    return data


def read_again(fd: int) -> bytes:
    """Return what a file holds now, from its beginning; its descriptor may be used again."""
    data = b""
    while part := os.pread(fd, _CHUNK, len(data)):
        data += part
    return data


def open_regular(path: str, flags: int) -> int:
    """Open a regular file, new ones with mode 0600; raise OSError if it is something else.

    For directories that others can write in: a link is not followed (ELOOP), and nothing is waited
    for, neither the other end of a pipe nor whoever holds a lease on the file (fcntl(2)).
    """
    guarded = flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    fd = os.open(path, guarded, PRIVATE_FILE)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ENXIO, "is not a regular file", path)
        os.set_blocking(fd, True)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_regular(path: str, most: int) -> bytes:
    """Return what a regular file holds; raise ValueError if that is more than `most` bytes."""
    fd = open_regular(path, os.O_RDONLY)
    try:
        data = bytearray()
        while part := os.read(fd, _CHUNK):
            data += part
            if len(data) > most:
                raise ValueError(f"{path} holds more than {most} bytes")
        return bytes(data)
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
