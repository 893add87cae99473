"""The few Linux calls that the standard library does not have, by ctypes, all in this file."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_FALLOC_FL_KEEP_SIZE = 0x01  # linux/falloc.h
_FALLOC_FL_PUNCH_HOLE = 0x02

IN_MODIFY = 0x002  # linux/inotify.h
_INOTIFY_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows


def become_subreaper() -> None:
    """Make orphans below this process its own children, instead of init's; survives exec."""
    _call(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give a range of a file back to the file system; its bytes read as zero from then on."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    _call(_libc.fallocate(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)))


def inotify() -> int:
    """Return a new inotify descriptor, close-on-exec."""
    return _call(_libc.inotify_init1(os.O_CLOEXEC))


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Watch `path`; return the watch descriptor."""
    return _call(_libc.inotify_add_watch(fd, os.fsencode(path), mask))


def inotify_remove(fd: int, watch: int) -> None:
    """Stop watching; an already vanished watch raises OSError (EINVAL)."""
    _call(_libc.inotify_rm_watch(fd, watch))


def inotify_watches(data: bytes) -> Iterator[int]:
    """Yield the watch descriptor of each event in what was read from an inotify descriptor."""
    at = 0
    while at < len(data):
        watch, _, _, length = _INOTIFY_EVENT.unpack_from(data, at)
        yield watch
        at += _INOTIFY_EVENT.size + length


def _call(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
