"""posix_spawn(3) with what `os.posix_spawn` does not offer: a working directory, and all signals.

The child shares this process's memory until it has executed its program, and this process stands
still meanwhile (vfork). Only launchers call it (launcher.py).
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None)

_SETSIGDEF = 0x04  # spawn.h
_SETSIGMASK = 0x08
_SETSID = 0x80
_ATTRIBUTES_BYTES = 512  # more than any C library needs: glibc 336
_ACTIONS_BYTES = 256  # glibc 80
_SIGNAL_SET_BYTES = 128

_spawn = _libc.posix_spawn
_spawn.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *4 * [ctypes.c_void_p]]
_add_directory = _libc.posix_spawn_file_actions_addchdir_np
_add_directory.argtypes = [ctypes.c_void_p, ctypes.c_char_p]


def _make_attributes() -> ctypes.Array[ctypes.c_char]:
    made = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    _libc.posix_spawnattr_init(made)
    _libc.posix_spawnattr_setflags(made, ctypes.c_short(_SETSID | _SETSIGMASK | _SETSIGDEF))
    _libc.posix_spawnattr_setsigmask(made, bytes(_SIGNAL_SET_BYTES))
    # Not by sigfillset(3): that leaves out the two signals that glibc keeps to itself, and glibc
    # would have the program ignore them for good.
    _libc.posix_spawnattr_setsigdefault(made, b"\xff" * _SIGNAL_SET_BYTES)
    return made


_ATTRIBUTES = _make_attributes()


# What the latest child did with its descriptors and its directory. The next job mostly has the same
# directory, and files with the same descriptors; and glibc makes a system call for each adddup2.
_key: tuple[bytes, tuple[int, int, int]] | None = None
_actions = ctypes.create_string_buffer(_ACTIONS_BYTES)


def _make_actions(cwd: bytes, stdio: tuple[int, int, int]) -> None:
    global _key  # noqa: PLW0603  # see there
    if _key == (cwd, stdio):
        return
    if _key is not None:
        _key = None
        _libc.posix_spawn_file_actions_destroy(_actions)
    _libc.posix_spawn_file_actions_init(_actions)
    for target, fd in enumerate(stdio):
        _libc.posix_spawn_file_actions_adddup2(_actions, fd, target)
    _add_directory(_actions, cwd)
    _key = cwd, stdio


def spawn(
    path: bytes,
    argv: list[bytes],
    env: list[bytes],
    cwd: bytes,
    stdio: tuple[int, int, int],
) -> int:
    """Execute the file at `path` in a session of its own; return its pid once it is executed.

    A `path` that is relative is so to `cwd`; `env` holds NAME=VALUE. The process gets `stdio` as
    its descriptors 0, 1 and 2, every other that is not close-on-exec, and default dispositions of
    all signals. Raises OSError, which does not say which step failed.
    """
    _make_actions(cwd, stdio)
    pid = ctypes.c_int()
    error = _spawn(ctypes.byref(pid), path, _actions, _ATTRIBUTES, _vector(argv), _vector(env))
    if error:
        raise OSError(error, os.strerror(error))
    return pid.value


def _vector(words: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)
