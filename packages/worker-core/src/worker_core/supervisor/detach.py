"""Detaches the supervisor from the process that started it: lock, session, signals, log, socket."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from typing import TextIO

from worker_core.disk import files, jobdir
from worker_core.linux import libc
from worker_core.supervisor import fsuid
from worker_core.supervisor.rundir import RunDir

log = logging.getLogger(__name__)


def take_lock(run_dir: RunDir) -> int | None:
    """Return the descriptor of the lock; None if another supervisor serves this state directory."""
    with fsuid.own():
        lock = _locked(os.path.join(run_dir.path, jobdir.LOCK))
    if lock is not None and run_dir.path != run_dir.state_dir:
        # A supervisor that an engine starts by itself would use this one. A job could hold it, so
        # it is taken only if it is free.
        with contextlib.suppress(OSError):
            if _locked(os.path.join(run_dir.state_dir, jobdir.LOCK)) is None:
                log.warning("another process holds %s in %s", jobdir.LOCK, run_dir.state_dir)
    return lock


def _locked(path: str) -> int | None:
    lock = files.open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def detach(state_dir: str) -> None:
    """Keep nothing of the process that started us, and open the log.

    Descendants whose parent ends become our children.
    """
    os.chdir("/")
    os.umask(0o077)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    libc.reset_hidden_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    libc.become_subreaper()
    logging.basicConfig(
        stream=_log_file(state_dir),
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )


def _log_file(state_dir: str) -> TextIO:
    try:
        log_fd = _open_log(state_dir)
    except OSError as error:
        sys.stderr.write(f"cannot write {jobdir.LOG} in {state_dir}: {error}\n")
        return sys.stderr
    return open(log_fd, "a", encoding="utf-8", errors="backslashreplace")


def _open_log(state_dir: str) -> int:
    path = os.path.join(state_dir, jobdir.LOG)
    return files.open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def redirect_output(state_dir: str) -> None:
    """Send what the interpreter itself prints to the log, not to the process that started us."""
    log_fd = _open_log(state_dir)
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log_fd)


def listen(state_dir: str) -> socket.socket:
    """Listen on the socket of a state directory.

    Its path may be longer than the 107 bytes that an address can have, so the directory is reached
    through a descriptor.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{directory}/{jobdir.SOCKET}"
        _clear(path)
        listener.bind(path)
        listener.listen(16)
    finally:
        os.close(directory)
    return listener


def _clear(path: str) -> None:
    """Remove an old socket; a directory in its place, which an engine can make, is renamed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        os.rename(path, f"{path}.{os.getpid()}.old")
