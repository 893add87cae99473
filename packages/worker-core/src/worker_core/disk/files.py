"""Reads and writes small files: written completely or not at all, created with their mode."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_CHUNK = 1 << 16
PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700


def read(path: str) -> bytes:
    """Return the content of a file, with fewer system calls than `open` makes.

    It never blocks: a FIFO in place of the file reads as empty.
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
    """Open a regular file, a new one with mode 0600; raise OSError if it is something else.

    Safe in directories that others can write to: it does not follow a link (ELOOP), and does not
    wait for the other end of a pipe or the holder of a lease on the file (fcntl(2)).
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
    """Return the content of a regular file; raise ValueError if it has more than `most` bytes."""
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
    """Create `path` (mode 0600) with `data`; raise FileExistsError if it exists.

    Others may see the file half written, so this is for files whose existence matters, as a claim.
    If writing fails, the file is removed.
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
    """Replace the file at `path` with `data` (mode 0600) in one step.

    With `sync` the data is on the disk on return. Without, it survives the end of this process, but
    perhaps not a crash of the machine.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        create(temporary, data, sync=sync)
    except FileExistsError:  # left by a process that had our pid and ended right here
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
