"""A state directory: created with mode 0700, and locked by one engine at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time

from worker_core.disk import jobdir
from worker_core.model.errors import StateDirInUse, StoreUnavailable

DATABASE = "worker.db"
_LOCK = "engine.lock"

# Seconds. An engine that is killed while it starts its supervisor holds the lock a little longer:
# the forked child has the lock too, until it executes its program.
_PATIENCE = 1.0


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path; raise StoreUnavailable if the working directory was removed."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise StoreUnavailable(
            f"cannot use {os.fspath(path)}: the working directory was removed; change to one that "
            "exists, or give an absolute path"
        ) from None


def prepare(path: str | os.PathLike[str] | None, undo: contextlib.ExitStack) -> str:
    """Create and lock the state directory, and return its path; None means a temporary directory.

    `undo` gets the callbacks that release it. Raises StateDirInUse, or StoreUnavailable if the
    directory cannot be created or used.
    """
    if path is not None and not os.fspath(path):
        raise StoreUnavailable("cannot keep jobs in a directory without a name")
    try:
        if path is None:
            made = tempfile.mkdtemp(prefix="worker-")
            undo.callback(shutil.rmtree, made, ignore_errors=True)
        else:
            made = absolute(path)
            jobdir.make_private_dir(made)
        jobdir.make_private_dir(os.path.join(made, jobdir.JOBS))
        _lock(made, undo)
    except OSError as error:
        where = "a temporary directory" if path is None else os.fspath(path)
        raise StoreUnavailable(f"cannot keep jobs in {where}: {error.strerror or error}") from error
    return made


def _lock(path: str, undo: contextlib.ExitStack) -> None:
    lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    undo.callback(os.close, lock)
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                break
            time.sleep(0.02)
        else:
            return
    raise StateDirInUse(
        f"cannot use {path}: another engine has it open; stop that one, or choose another "
        "state directory"
    )
