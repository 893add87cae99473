"""Namespaces and mounts of our own, entered between fork and exec.

bubblewrap was rejected: it tells the end of what it ran as an exit code of 128+N, and a job's
signal must stay a signal. Without privileges a user namespace is entered first, in which the job
keeps its own uid and gid and no other exists.

With a pid namespace, three processes stand for a job: the leader that the supervisor knows,
outside; the init of the box, which reaps; and the program. The leader ends as the program ended, by
exit code or by signal, so that nobody outside sees a difference.
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

_SIOCSIFFLAGS = 0x8914  # linux/sockios.h
_IFF_UP = 0x1
GRACE = signal.SIGUSR1
"""What the supervisor sends to the leader and the init of a box before it ends the program."""

_STATUS = struct.Struct("i")


@dataclass(frozen=True)
class Sandbox:
    """What is closed off; see worker_core.model.limits.Isolation."""

    private_network: bool = False
    private_tmp: bool = False
    read_only: bool = False
    writable: tuple[str, ...] = ()
    pid_namespace: bool = False


def enter(box: Sandbox, cwd: str, error: int) -> None:
    """Enter the box; with a pid namespace, only the innermost process returns.

    `error` is the descriptor that must be closed in every process that does not go on to exec.
    Raises OSError.
    """
    uid, gid = os.geteuid(), os.getegid()
    spaces = libc.CLONE_NEWNS
    spaces |= libc.CLONE_NEWNET if box.private_network else 0
    spaces |= libc.CLONE_NEWPID if box.pid_namespace else 0
    if uid != 0:
        libc.unshare(libc.CLONE_NEWUSER | spaces)
        _map_to_itself(uid, gid)
    else:
        libc.unshare(spaces)
    libc.make_mounts_private()
    if box.private_network:
        _bring_up_loopback()
    if box.pid_namespace:
        _fork_inside(error)
        libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    if box.read_only:
        # A job whose directory is the root asks for nothing that could be writable.
        _make_read_only([path for path in (cwd, *box.writable) if path != "/"])
    if box.private_tmp:
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
    """Make every mount read-only but for `writable`.

    What is mounted at and below those paths is copied before and put on top afterwards. So no
    attribute is ever taken away: a mount there that the administrator had made read-only stays so.
    """
    copies = [libc.copy_mounts(path) for path in writable]
    libc.set_mounts_read_only("/")
    for path, copy in zip(writable, copies, strict=True):
        libc.attach_mounts(copy, path)
        os.close(copy)


def _mount_private_tmp(path: str) -> None:
    """Mount an empty directory there; where no program may be executed, none may be in it."""
    flags = libc.MS_NOSUID | libc.MS_NODEV
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        flags |= libc.MS_NOEXEC
    libc.mount("tmpfs", path, "tmpfs", flags, "mode=1777")


def _fork_inside(error: int) -> None:
    """Return in the program's process only; the two others stay here until it has ended."""
    told, tell = os.pipe()
    init = os.fork()
    if init:
        os.close(tell)
        os.close(error)
        _end_as(_outcome_told(told, init))
    os.close(told)
    program = os.fork()
    if program:
        os.close(error)
        _reap_until(program, tell)
    os.close(tell)


def _outcome_told(told: int, init: int) -> int:
    """Wait, deaf to every signal that can be ignored, for how the program ended."""
    _stand_by()
    data = os.read(told, _STATUS.size)
    if not _has_grace():  # else init goes on, and is left to the supervisor
        os.waitpid(init, 0)
    # Without a word from it, init was killed, and everything in the box with it.
    return int(_STATUS.unpack(data)[0]) if data else int(signal.SIGKILL)


def _reap_until(program: int, tell: int) -> NoReturn:
    """Be the init of the box. When this process ends, the kernel ends all others in it.

    So it outlives the program if a kill is under way: the rest has its grace.
    """
    _stand_by()
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)
        if pid == program:
            os.write(tell, _STATUS.pack(status))
            if not _has_grace():
                os._exit(0)


def _end_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        signum = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program's core is enough
        if signum not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
        os.kill(os.getpid(), signum)
    os._exit(os.WEXITSTATUS(status))


def _has_grace() -> bool:
    return GRACE in signal.sigpending()


def _stand_by() -> None:
    """Hold nothing and ignore every signal that can be ignored.

    The command line is that of the supervisor until here: whoever ends that by its command line
    would end every job in a box.
    """
    with contextlib.suppress(OSError):
        libc.set_command_line("worker: sandbox of a job")
    signal.pthread_sigmask(signal.SIG_BLOCK, [GRACE])  # kept until somebody looks for it
    kept = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, GRACE}
    for signum in signal.valid_signals() - kept:
        signal.signal(signum, signal.SIG_IGN)
    for fd in range(3):
        os.close(fd)
