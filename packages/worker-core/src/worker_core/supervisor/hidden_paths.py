"""The server's own files, which a job with `read_only` can neither read nor change.

Such a job can write below its working directory. That may be the home of the account that workerd
runs as, with its state, its settings, its keys and its users in it.

A directory is hidden by an empty file system, and a file by a device that cannot be opened.
The directories above, up to the one that the job may write in, become mounts of their own: a mount
cannot be renamed, so the job cannot move the hidden path away and put another one in its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from worker_core.linux import libc


def hide(paths: Iterable[str], writable: Iterable[str]) -> None:
    """Hide paths in this mount namespace; `writable` are the paths that the job may write below.

    A path that does not exist, or that the job's account cannot reach, needs no hiding. Raises
    OSError.
    """
    found = _outermost(filter(None, map(_real, paths)))
    roots = [os.path.realpath(each) for each in writable]
    pins = {above for path in found for root in roots for above in _between(root, path)}
    for path in sorted(pins):  # a directory before those inside it
        _attach_copy(path, path)
    for path in found:
        if os.path.isdir(path):
            flags = libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
            libc.mount("tmpfs", path, "tmpfs", flags, "mode=000,size=4k")
        else:
            _attach_copy(os.devnull, path)
            libc.set_mounts_read_only(path, no_devices=True)


def covering(path: str, hidden: Iterable[str]) -> str | None:
    """Return the hidden path that a path is, or is inside; None if there is none."""
    real = os.path.realpath(path)
    places = map(os.path.realpath, hidden)
    return next((each for each in places if is_inside(real, each)), None)


def is_inside(path: str, directory: str) -> bool:
    """Return whether a path is a directory or inside it; both are absolute and without links."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _real(path: str) -> str | None:
    try:
        return os.path.realpath(path, strict=True)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _outermost(paths: Iterable[str]) -> list[str]:
    """Return the paths that are not inside another one."""
    found: list[str] = []
    for path in sorted(set(paths)):
        if not any(is_inside(path, each) for each in found):
            found.append(path)
    return found


def _between(root: str, path: str) -> Iterable[str]:
    """Yield the directories above a path that are inside `root`, without `root` itself."""
    above = os.path.dirname(path)
    while above != root and is_inside(above, root):
        yield above
        above = os.path.dirname(above)


def _attach_copy(source: str, path: str) -> None:
    copy = libc.copy_mounts(source)
    libc.attach_mounts(copy, path)
    os.close(copy)
