"""Limits of this machine, or of this process, that were reached: said in words."""

from __future__ import annotations

import errno
import os

_SHORTAGES = {
    errno.EMFILE: "this process has as many open files as it may have (ulimit -n)",
    errno.ENFILE: "this machine has as many open files as it can have",
    errno.ENOMEM: "there is not enough memory",
    errno.ENOBUFS: "there is not enough memory for the network",
}
_MEMORY = "there is not enough memory"
_THREADS = "there are as many processes and threads as there may be (ulimit -u)"


def of(error: BaseException) -> str | None:
    """Return which limit an error means, None if it means something else."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError):
        return _SHORTAGES.get(error.errno or 0)
    # threading raises nothing more special.
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _THREADS
    return None


def of_loading(error: BaseException) -> str:
    """Return why a module of this program could not be loaded."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as short:  # without a descriptor, a module that is there is not found
        error = short
    cure = "if no limit was reached (ulimit -a), install worker-cli again"
    return of(error) or f"{error}; {cure}"
