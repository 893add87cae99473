"""Explain the errors that mean: a limit of this machine or of this process was reached."""

from __future__ import annotations

import errno
import os

_LIMITS = {
    errno.EMFILE: "this process has reached its limit of open files (ulimit -n)",
    errno.ENFILE: "this machine has reached its limit of open files",
    errno.ENOMEM: "there is not enough memory",
    errno.ENOBUFS: "there is not enough memory for network buffers",
}
_MEMORY = "there is not enough memory"
_THREADS = "the limit of processes and threads is reached (ulimit -u)"


def explain(error: BaseException) -> str | None:
    """Return which limit an error means, None if it means something else."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError):
        return _LIMITS.get(error.errno or 0)
    # threading raises a plain RuntimeError.
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _THREADS
    return None


def explain_import_error(error: BaseException) -> str:
    """Return why a module of this program could not be imported."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as no_descriptor:
        # Without a free descriptor, Python reports that an existing module was not found.
        error = no_descriptor
    cure = "if no limit was reached (ulimit -a), install worker-cli again"
    return explain(error) or f"{error}; {cure}"
