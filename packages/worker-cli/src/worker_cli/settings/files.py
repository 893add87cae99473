"""Files that must never be half written, nor lose a change, nor be readable by others."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from worker_cli import errors


def write(file: Path, content: bytes) -> None:
    """Replace a file in one step, with mode 0600; raise SettingsError when it cannot be."""
    try:
        # A configuration that is a link into somebody's dotfiles stays one.
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
    """Keep other processes from changing a file in a directory between our reading and writing it.

    Makes the directory where it is missing; raises SettingsError when it cannot be written to.
    """
    # A file, since NFS locks nothing that is not open for writing, as a directory cannot be.
    file = directory / ".lock"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.SettingsError(f"cannot write {file}: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):  # a file system without locks is better than no login
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def refuse_if_open(file: Path, mode: int, owner: int) -> None:
    """Raise SettingsError when a file with secrets is readable by others, or is somebody else's."""
    if owner != os.geteuid():
        raise errors.SettingsError(f"{file} belongs to another user and is not used")
    if mode & 0o077:
        raise errors.SettingsError(
            f"others can read the passwords in {file}; close it with: chmod 600 {file}"
        )
