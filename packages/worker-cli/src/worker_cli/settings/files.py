"""Write files atomically, without losing a concurrent change, and readable only by their owner."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from worker_cli import errors


def write(file: Path, content: bytes) -> None:
    """Replace a file atomically, with mode 0600; raise SettingsError when that fails.

    All files that the client saves are written by this function.
    """
    try:
        # A file that is a symbolic link, as people have into their dotfiles, stays a link.
        file = file.resolve()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise errors.SettingsError(f"cannot write {file}: {error.strerror}") from None


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a directory, so that nobody else changes a file between our reading and writing it.

    Creates the directory if it is missing; raises SettingsError when it is not writable.
    """
    # The lock is on a file, because NFS locks only what is open for writing.
    file = directory / ".lock"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.SettingsError(f"cannot write {file}: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):  # where the file system has no locks, do without
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def check_private(file: Path, mode: int, owner: int) -> None:
    """Raise SettingsError when a file with secrets belongs to others or is readable by them."""
    if owner != os.geteuid():
        raise errors.SettingsError(f"cannot use {file}: it belongs to another user")
    if mode & 0o077:
        raise errors.SettingsError(
            f"cannot use {file}: others can read its passwords; fix that with: chmod 600 {file}"
        )
