"""The few Linux calls that the standard library lacks, by ctypes. All of them are in this file."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal
import struct
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_holding = ctypes.PyDLL(
    None, use_errno=True
)  # the same, but keeps the interpreter lock (GIL) during a call

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_NAME = 15
_FALLOC_FL_KEEP_SIZE = 0x01  # linux/falloc.h
_FALLOC_FL_PUNCH_HOLE = 0x02

_SYS_CLONE3 = 435  # the same number on every architecture, as all calls since 5.1
_CLONE_ARGS = struct.Struct("11Q")  # linux/sched.h, as of Linux 5.7
_CLONE_INTO_CGROUP = 0x2_0000_0000

CLONE_NEWNS = 0x00020000  # linux/sched.h
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1  # linux/mount.h
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
_MS_REC = 16384
_MS_PRIVATE = 1 << 18
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR_NODEV = 4
_AT_FDCWD = -100  # linux/fcntl.h
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_OPENAT2 = 437
_OPEN_HOW = struct.Struct("3Q")  # linux/openat2.h: flags, mode, resolve
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_SYS_MOUNT_SETATTR = 442

# By the machine name of uname(2); 134 is the number on all architectures since 2008.
_SYS_RT_SIGACTION = {"x86_64": 13, "aarch64": 134, "riscv64": 134, "loongarch64": 134}
_SIGACTION = struct.Struct(
    "QQQQ"
)  # handler, flags, restorer, mask; some architectures have no restorer

_PIDFD_GET_INFO = 0xC040FF0B  # linux/pidfd.h, Linux 6.13
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15
_PIDFD_INFO = struct.Struct("QQ11Ii")  # mask, cgroup, ids; wait status

IN_MODIFY = 0x002  # linux/inotify.h
_INOTIFY_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows


def become_subreaper() -> None:
    """Make this process, instead of init, the parent of orphans below it; survives exec."""
    _call(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def name_process(name: str) -> None:
    """Set the name in /proc/PID/comm, of at most 15 bytes (prctl(2), PR_SET_NAME)."""
    _call(_libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0))


def fork_into(group: int) -> int:
    """Fork a child that is from the start in the cgroup whose directory is open as `group`.

    Returns what os.fork returns. Uses clone3(2), Linux 5.7; container runtimes may refuse it
    (ENOSYS). Only for a process with one thread: it does not do what os.fork does for threads.
    """
    arguments = _CLONE_ARGS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, *5 * [0], group)
    return _call(_holding.syscall(_SYS_CLONE3, arguments, len(arguments)))


def wait_status(pidfd: int) -> int | None:
    """Return the wait status of a process that was reaped by any process; None if not yet.

    Raises OSError where the kernel does not report it: before Linux 6.15 (ENOTTY or EINVAL, and
    ESRCH for a process that is gone), and outside the process's pid namespace (EREMOTE).
    """
    info = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *13 * [0]))
    fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    mask, *_, status = _PIDFD_INFO.unpack(info)
    return int(status) if mask & _PIDFD_INFO_EXIT else None


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Release the disk space of a range of a file; its bytes then read as zero."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    _call(_libc.fallocate(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)))


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open a path below an open directory, through no link of any kind (openat2(2), Linux 5.6)."""
    return _openat2(directory, path, flags, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)


def open_without_magic(path: str, flags: int) -> int:
    """Open a path, but not through a magic link of /proc, which bypasses file permissions."""
    return _openat2(_AT_FDCWD, path, flags, _RESOLVE_NO_MAGICLINKS)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _OPEN_HOW.pack(flags, 0, resolve)
    arguments = (directory, os.fsencode(path), how, len(how))
    try:
        return _call(_libc.syscall(_SYS_OPENAT2, *arguments))
    except OSError as error:
        error.filename = path
        raise


def unshare(flags: int) -> None:
    """Move into new namespaces (unshare(2)); os.unshare exists since Python 3.12."""
    _call(_libc.unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount (mount(2))."""
    kind_bytes = None if kind is None else kind.encode()
    encoded = (os.fsencode(source), os.fsencode(target), kind_bytes)
    _call(_libc.mount(*encoded, ctypes.c_ulong(flags), data.encode()))


def make_mounts_private() -> None:
    """Stop mounts from propagating between this mount namespace and others."""
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)


def set_mounts_read_only(path: str, *, no_devices: bool = False) -> None:
    """Make a mount and all mounts below it read-only (mount_setattr(2), Linux 5.12).

    With `no_devices`, no device in them can be opened any more.
    """
    wanted = _MOUNT_ATTR_RDONLY | (_MOUNT_ATTR_NODEV if no_devices else 0)
    attributes = struct.pack("QQQQ", wanted, 0, 0, 0)
    arguments = (_AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, len(attributes))
    _call(_libc.syscall(_SYS_MOUNT_SETATTR, *arguments))


def copy_mounts(path: str) -> int:
    """Return a descriptor of a copy of what is mounted at and below a path (open_tree(2)).

    The copy has the attributes of the originals and is not attached anywhere yet.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    return _call(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags))


def attach_mounts(fd: int, path: str) -> None:
    """Attach the mounts of `copy_mounts` at a path (move_mount(2))."""
    arguments = (fd, b"", _AT_FDCWD, os.fsencode(path), _MOVE_MOUNT_F_EMPTY_PATH)
    _call(_libc.syscall(_SYS_MOVE_MOUNT, *arguments))


def forbid_new_privileges() -> None:
    """Prevent this process and its children from gaining privileges (PR_SET_NO_NEW_PRIVS)."""
    _call(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def set_command_line(text: str) -> None:
    """Show `text` as the command line of this process, cut to the length of the present one.

    This overwrites the arguments in memory, of which a forked process has its own copy (proc(5),
    /proc/PID/stat, fields 48 and 49). Does nothing where the kernel hides their addresses.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
        shown = text.encode()[: end - start - 1]
        ctypes.memmove(start, shown, len(shown))


def reset_hidden_signals() -> None:
    """Reset the signals that the C library reserves for itself, where they are ignored.

    glibc's posix_spawn leaves them ignored in the new process, and all its children inherit that;
    sigaction(3) refuses to change them. Call it before any thread is started.
    """
    number = _SYS_RT_SIGACTION.get(platform.machine())
    for signum in range(32, signal.SIGRTMIN) if number else ():
        action = ctypes.create_string_buffer(_SIGACTION.size)
        size = ctypes.c_size_t(8)  # of a mask
        _call(_libc.syscall(number, signum, None, action, size))
        if _SIGACTION.unpack(action)[0] == signal.SIG_IGN:
            _call(_libc.syscall(number, signum, bytes(_SIGACTION.size), None, size))


def set_file_user(uid: int) -> None:
    """Use a user's permissions on files; for 0, also root's capabilities (setfsuid(2))."""
    _libc.setfsuid(uid)
    _expect(_libc.setfsuid(-1), uid)


def set_file_group(gid: int) -> None:
    """The same for a group (setfsgid(2))."""
    _libc.setfsgid(gid)
    _expect(_libc.setfsgid(-1), gid)


def inotify() -> int:
    """Return a new inotify descriptor, close-on-exec."""
    return _call(_libc.inotify_init1(os.O_CLOEXEC))


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Watch `path`; return the watch descriptor."""
    return _call(_libc.inotify_add_watch(fd, os.fsencode(path), mask))


def inotify_remove(fd: int, watch: int) -> None:
    """Stop watching; raises OSError (EINVAL) if the watch does not exist any more."""
    _call(_libc.inotify_rm_watch(fd, watch))


def inotify_watches(data: bytes) -> Iterator[int]:
    """Yield the watch descriptor of each event in what was read from an inotify descriptor."""
    at = 0
    while at < len(data):
        watch, _, _, length = _INOTIFY_EVENT.unpack_from(data, at)
        yield watch
        at += _INOTIFY_EVENT.size + length


def _expect(found: int, wanted: int) -> None:
    # These two calls report no error; with an impossible id they return the present value.
    if found != wanted:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _call(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
