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


def spawn(
    path: bytes,
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: bytes,
    stdio: tuple[int, int, int],
) -> int:
    """Execute the file at `path` in a session of its own; return its pid once it is executed.

    A `path` that is relative is so to `cwd`. It gets `stdio` as its descriptors 0, 1 and 2, every
    other that is not close-on-exec, and default dispositions of all signals. Raises OSError, which
    does not say which step failed.
    """
    pid = ctypes.c_int()
    actions = ctypes.create_string_buffer(_ACTIONS_BYTES)
    _libc.posix_spawn_file_actions_init(actions)
    try:
        for target, fd in enumerate(stdio):
            _libc.posix_spawn_file_actions_adddup2(actions, fd, target)
        _add_directory(actions, cwd)
        environment = _vector([b"%s=%s" % pair for pair in env.items()])
        error = _spawn(ctypes.byref(pid), path, actions, _ATTRIBUTES, _vector(argv), environment)
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)
    if error:
        raise OSError(error, os.strerror(error))
    return pid.value


def _vector(words: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)
