"""Reads processes from /proc (proc(5)). A process that no longer exists reads as None."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from worker_core.disk import files

_PF_EXITING = 0x4  # linux/sched.h, field 9 of /proc/PID/stat
_PF_FORKNOEXEC = 0x40
_RTTIME = b"Max realtime timeout"
_UID = re.compile(rb"^Uid:\t(\d+)\t", re.MULTILINE)
_VMHWM = re.compile(rb"^VmHWM:\s*(\d+) kB$", re.MULTILINE)
_PENDING = re.compile(rb"^SigPnd:\s*([0-9a-f]+)$", re.MULTILINE)
_SIGKILL_BIT = 1 << (signal.SIGKILL - 1)
_NSPID = re.compile(rb"^NSpid:.*\t(\d+)$", re.MULTILINE)
_MASKS = re.compile(rb"^Sig(Blk|Ign|Cgt):\s*([0-9a-f]+)$", re.MULTILINE)


def proc_fault() -> str | None:
    """Return what is wrong with /proc, and the cure; None if it can be used."""
    if not os.path.exists("/proc/self/stat"):
        return "/proc is not mounted; mount it: mount -t proc proc /proc"
    if not os.path.exists("/proc/sys/kernel/random/boot_id"):
        return (
            "/proc is mounted with subset=pid, which hides the boot id of the machine; mount it "
            "without that (ProcSubset=all in the unit of a service)"
        )
    return None


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/PID/stat that matter here; the state is that of a living thread."""

    pid: int
    state: str
    ppid: int
    session: int
    exiting: bool
    start_time: int
    user_ticks: int  # of the process and of the children that it waited for
    system_ticks: int

    @property
    def ended(self) -> bool:
        """Whether the process is dead or dying: a signal to it has no effect any more."""
        return self.exiting or self.state in "ZX"


def stat(pid: int) -> Stat | None:
    """Read the state of a process."""
    data = _read(pid, "stat")
    if data is None:
        return None
    fields = _fields(data)
    state, exiting = _condition(fields)
    if (exiting or state in "ZX") and int(fields[17]) > 1:
        # Its first thread has ended (pthread_exit(3)); the process lives while another thread does.
        state, exiting = _living_thread(pid) or (state, exiting)
    return Stat(
        pid=pid,
        state=state,
        ppid=int(fields[1]),
        session=int(fields[3]),
        exiting=exiting,
        start_time=int(fields[19]),
        user_ticks=int(fields[11]) + int(fields[13]),
        system_ticks=int(fields[12]) + int(fields[14]),
    )


def has_executed(pid: int) -> bool:
    """Return whether a process has executed a program since it was forked; True if it is gone.

    This works for a zombie too.
    """
    data = _read(pid, "stat")
    return data is None or not int(_fields(data)[6]) & _PF_FORKNOEXEC


def _fields(data: bytes) -> list[bytes]:
    # The name in parentheses may itself contain spaces and parentheses.
    return data[data.rindex(b")") + 2 :].split()


def _condition(fields: list[bytes]) -> tuple[str, bool]:
    return fields[0].decode(), bool(int(fields[6]) & _PF_EXITING)


def _living_thread(pid: int) -> tuple[str, bool] | None:
    """Return state and exiting flag of a thread that is not about to end; None if there is none.

    When a process ends, for any reason, the kernel sends SIGKILL to each of its threads.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            pending = _PENDING.search(_read(pid, f"task/{thread}/status") or b"")
            data = _read(pid, f"task/{thread}/stat")
            if data is None or pending is None or int(pending[1], 16) & _SIGKILL_BIT:
                continue
            state, exiting = _condition(_fields(data))
            if not exiting and state not in "ZX":
                return state, exiting
    return None


def wait_status(pid: int, start_time: int) -> int | None:
    """Return the wait status of a zombie, whatever its parent is; None if it cannot be read.

    Without permission to trace the process the field reads as 0, like success. Reading a link in
    the same directory needs the same permission, so it shows whether we have it (ptrace(2),
    PTRACE_MODE_READ).
    """
    data = _read(pid, "stat")
    if data is None:
        return None
    try:
        os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return None
    fields = _fields(data)
    is_it = fields[0] in (b"Z", b"X") and int(fields[19]) == start_time
    return int(fields[-1]) if is_it else None


def realtime_limit(pid: int) -> int | None:
    """Return the soft RLIMIT_RTTIME of a process, None if it is unlimited."""
    data = _read(pid, "limits") or b""
    at = data.find(_RTTIME)
    if at < 0:
        return None
    value = data[at + len(_RTTIME) :].split(None, 1)[0]
    return int(value) if value.isdigit() else None


def user(pid: int) -> int | None:
    """Return the real uid of a process. Its directory in /proc may have another owner."""
    found = _UID.search(_read(pid, "status") or b"")
    return None if found is None else int(found[1])


def survives(pid: int, signum: int) -> bool:
    """Return whether a process catches, ignores or blocks a signal, so that it may survive it."""
    masks = dict(_MASKS.findall(_read(pid, "status") or b""))
    bit = 1 << (signum - 1)
    return any(int(mask, 16) & bit for mask in masks.values())


def peak_memory(pid: int) -> int | None:
    """Return the peak resident memory of a process in bytes (VmHWM)."""
    found = _VMHWM.search(_read(pid, "status") or b"")
    return None if found is None else int(found[1]) * 1024


@functools.cache
def cgroup2_mount() -> str | None:
    """Return where the whole cgroup2 hierarchy is mounted (cgroups(7))."""
    with contextlib.suppress(FileNotFoundError), open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2" and fields[3] == "/":
                return fields[4]
    return None


def cgroup(pid: int) -> str | None:
    """Return the directory of the cgroup2 group of a process."""
    lines = (_read(pid, "cgroup") or b"").decode().splitlines()
    inside = next((line[3:] for line in lines if line.startswith("0::")), None)
    mount = cgroup2_mount()
    return None if inside is None or mount is None else f"{mount}{inside}".rstrip("/")


def pids() -> Iterator[int]:
    """Yield the id of every process that is visible."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield int(name)


def shutting_down() -> bool:
    """Return whether the machine shuts down and systemd kills all remaining processes."""
    return _read(1, "comm") == b"systemd-shutdow\n"  # what pid 1 executes then; cut to 15 bytes


def children(parent: int) -> list[int]:
    """Return the ids of the direct children of a process with one thread."""
    try:
        if parent == os.getpid():
            return [int(pid) for pid in files.read_again(_own_children(parent)).split()]
        return [int(pid) for pid in files.read(f"/proc/{parent}/task/{parent}/children").split()]
    except ProcessLookupError:
        return []
    except FileNotFoundError:  # the process is gone, or the kernel lacks CONFIG_PROC_CHILDREN
        found = (stat(pid) for pid in pids())
        return [each.pid for each in found if each is not None and each.ppid == parent]


@functools.lru_cache(1)
def _own_children(own: int) -> int:
    """Return the descriptor of the list of this process's children, which is read often."""
    return os.open(f"/proc/{own}/task/{own}/children", os.O_RDONLY | os.O_CLOEXEC)


def inner_pid(pid: int) -> int | None:
    """Return the id of a process in its own, innermost pid namespace."""
    found = _NSPID.search(_read(pid, "status") or b"")
    return None if found is None else int(found[1])


def _read(pid: int, name: str) -> bytes | None:
    try:
        return files.read(f"/proc/{pid}/{name}")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
