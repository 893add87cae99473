"""Files that are replaced as a whole: a reader sees the old content or the new one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def write(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    group: int | None = None,
    keep_owner: bool = False,
) -> None:
    """Replace a file, and return once the new one is on the disk.

    The file has `mode`, and belongs to `group` if one is given. With `keep_owner`, a file that is
    replaced keeps its owner, group and mode, as far as this account may set them. The new
    file is never readable for more accounts than at the end.

    Raises OSError, with the name of the file; the old file is then unchanged.
    """
    try:
        with contextlib.ExitStack() as undo:
            # mkstemp makes files of mode 0600, whatever the umask is.
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            undo.callback(os.unlink, temporary)
            with open(descriptor, "wb") as file:
                if group is not None:
                    os.fchown(descriptor, -1, group)
                os.fchmod(descriptor, mode)
                if keep_owner:
                    _keep_owner(path, descriptor)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
            undo.pop_all()
        _sync_directory(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise


def _keep_owner(path: Path, descriptor: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        old = path.stat()
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
