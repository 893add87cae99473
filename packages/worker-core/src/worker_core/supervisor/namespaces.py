"""Namespaces and mounts of a job's sandbox, entered between fork and exec.

bubblewrap was rejected: it reports a signal that ended its program as the exit code 128+N, and here
the signal of a job must stay a signal. Without privileges a user namespace is entered first, in
which the job keeps its own uid and gid and no others exist.

With a pid namespace a job has three processes: the leader, which the supervisor knows and which is
outside; the init of the namespace, which reaps; and the program. Leader and init are relays: the
leader ends as the program ended, by exit code or by signal, so that other processes see no
difference.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import struct
from dataclasses import dataclass
from typing import NoReturn

from worker_core.linux import libc
from worker_core.supervisor import hidden_paths

_SIOCSIFFLAGS = 0x8914  # linux/sockios.h
_IFF_UP = 0x1
GRACE = signal.SIGUSR1
"""What the supervisor sends to both relays before it ends the program."""

_STATUS = struct.Struct("i")


@dataclass(frozen=True)
class Sandbox:
    """What a job cannot reach; see worker_core.model.limits.Isolation."""

    private_network: bool = False
    private_tmp: bool = False
    read_only: bool = False
    writable: tuple[str, ...] = ()
    pid_namespace: bool = False
    hidden: tuple[str, ...] = ()  # with read_only: the server's own files (hidden_paths.py)


def enter(sandbox: Sandbox, cwd: str, error: int) -> None:
    """Enter the sandbox; with a pid namespace, only the program's process returns.

    `error` is a descriptor that every other process closes. Raises OSError.
    """
    uid, gid = os.geteuid(), os.getegid()
    spaces = libc.CLONE_NEWNS
    spaces |= libc.CLONE_NEWNET if sandbox.private_network else 0
    spaces |= libc.CLONE_NEWPID if sandbox.pid_namespace else 0
    if uid != 0:
        libc.unshare(libc.CLONE_NEWUSER | spaces)
        _map_to_itself(uid, gid)
    else:
        libc.unshare(spaces)
    libc.make_mounts_private()
    if sandbox.private_network:
        _bring_up_loopback()
    if sandbox.pid_namespace:
        _fork_inside(error)
        libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    if sandbox.read_only:
        # If the working directory is the root, it does not become writable.
        writable = [path for path in (cwd, *sandbox.writable) if path != "/"]
        _make_read_only(writable)
        hidden_paths.hide(sandbox.hidden, writable)
    if sandbox.private_tmp:
        for path in ("/tmp", "/var/tmp"):  # noqa: S108  # these two are what is meant
            _mount_private_tmp(path)


def _map_to_itself(uid: int, gid: int) -> None:
    """Map one uid and one gid, as user_namespaces(7) lets an unprivileged process do."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _make_read_only(writable: list[str]) -> None:
    """Make every mount read-only except what is mounted at and below `writable`.

    What is mounted there is copied before and attached on top afterwards. So no attribute is ever
    removed: a mount there that the administrator has made read-only stays read-only.
    """
    copies = [libc.copy_mounts(path) for path in writable]
    libc.set_mounts_read_only("/")
    for path, copy in zip(writable, copies, strict=True):
        libc.attach_mounts(copy, path)
        os.close(copy)


def _mount_private_tmp(path: str) -> None:
    """Mount an empty directory; no program can be executed in it if none could be before."""
    flags = libc.MS_NOSUID | libc.MS_NODEV
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        flags |= libc.MS_NOEXEC
    libc.mount("tmpfs", path, "tmpfs", flags, "mode=1777")


def _fork_inside(error: int) -> None:
    """Return in the process of the program only; in the two relays, wait until it has ended."""
    reading, writing = os.pipe()
    init = os.fork()
    if init:
        os.close(writing)
        os.close(error)
        _end_as(_program_status(reading, init))
    os.close(reading)
    program = os.fork()
    if program:
        os.close(error)
        _reap_until(program, writing)
    os.close(writing)


def _program_status(reading: int, init: int) -> int:
    """Wait, as the leader, until init reports the wait status of the program."""
    _become_relay()
    data = os.read(reading, _STATUS.size)
    if not _has_grace():  # else init goes on, and the supervisor reaps it
        os.waitpid(init, 0)
    # If init reported nothing, it was killed, and all processes of the namespace with it.
    return int(_STATUS.unpack(data)[0]) if data else int(signal.SIGKILL)


def _reap_until(program: int, writing: int) -> NoReturn:
    """Be the init of the pid namespace. When init ends, the kernel kills all its other processes.

    So init goes on after the program's end if a kill is under way: the other processes then have
    the rest of the grace.
    """
    _become_relay()
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)
        if pid == program:
            os.write(writing, _STATUS.pack(status))
            if not _has_grace():
                os._exit(0)


def _end_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        signum = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program's own core is enough
        if signum not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
        os.kill(os.getpid(), signum)
    os._exit(os.WEXITSTATUS(status))


def _has_grace() -> bool:
    return GRACE in signal.sigpending()


def _become_relay() -> None:
    """Close all standard descriptors, and ignore every signal that can be ignored.

    Until here this process has the command line of a launcher. An administrator who ended launchers
    by their command line would end every job in a sandbox.
    """
    with contextlib.suppress(OSError):
        libc.set_command_line("worker: sandbox of a job")
    signal.pthread_sigmask(signal.SIG_BLOCK, [GRACE])  # it stays pending until it is looked for
    kept = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, GRACE}
    for signum in signal.valid_signals() - kept:
        signal.signal(signum, signal.SIG_IGN)
    for fd in range(3):
        os.close(fd)
