"""Which processes belong to a job, and how to signal all of them and no others.

Every process of a job carries the job's mark: a soft RLIMIT_RTTIME that is computed from the job's
id. A limit is inherited by fork and kept by exec. Unlike a session, a parent or an environment
variable it survives setsid, a double fork and a cleared environment; unlike all of these it is
still there when the supervisor that started the job has ended; and it needs no privilege. The limit
itself has no effect: it bounds only threads under real-time scheduling, to some 30,000 years.

Rejected: supplementary groups (need root), the environment alone (`env -i` clears it), one more
process for each job as its subreaper (needs memory, and can be killed itself).

Beside the mark, these belong to a job: all processes of the leader's session, as long as the leader
is not reaped (until then its pid cannot name another session), and all descendants of a process
that has been found.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from worker_core.linux import procfs
from worker_core.linux.procfs import Stat
from worker_core.supervisor import fsuid

_MARK_BIT = 1 << 60
_MARK_BITS = 56

_PROGRAM = 2  # the program's pid in the pid namespace of its job; init has 1


def mark(job_id: str) -> int:
    """Return the mark of a job: a limit in microseconds that no person would set."""
    return _MARK_BIT | int(job_id.replace("-", "")[: _MARK_BITS // 4], 16)


@functools.cache
def _own_limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_RTTIME)


def can_mark(job_id: str) -> bool:
    """Return whether a job can have its mark: no hard limit of ours is lower."""
    return _can_have(mark(job_id))


def _can_have(wanted: int) -> bool:
    _, hard = _own_limits()
    return hard == resource.RLIM_INFINITY or hard >= wanted


@contextmanager
def marked(job_id: str) -> Iterator[None]:
    """Give the mark of a job to what is forked in this block, if the job can have its mark."""
    wanted = mark(job_id)
    if not _can_have(wanted):
        yield
        return
    soft, hard = _own_limits()
    resource.setrlimit(resource.RLIMIT_RTTIME, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))


def members(job_id: str, leader: int | None = None) -> list[Stat]:
    """Return the living processes of a job; `leader` is its pid as long as it is not reaped."""
    me = os.getpid()
    found = [each for each in map(procfs.stat, procfs.pids()) if each is not None]
    wanted = mark(job_id)
    inside = {
        each.pid
        for each in found
        if (leader is not None and leader in (each.pid, each.session))
        or (procfs.realtime_limit(each.pid) == wanted and fsuid.may_end(each.pid))
    }
    inside.discard(me)
    return [each for each in _with_descendants(found, inside) if each.state not in "ZX"]


def _with_descendants(found: list[Stat], inside: set[int]) -> list[Stat]:
    below: dict[int, list[int]] = {}
    for each in found:
        below.setdefault(each.ppid, []).append(each.pid)
    ahead = list(inside)
    while ahead:
        new = [pid for pid in below.get(ahead.pop(), ()) if pid not in inside]
        inside.update(new)
        ahead.extend(new)
    return [each for each in found if each.pid in inside]


def program(leader: int) -> int | None:
    """Return the program of a job with a pid namespace, None once it is gone.

    It is the first process that the init of the namespace forked (namespaces.py).
    """
    for init in procfs.children(leader):
        for pid in procfs.children(init):
            if procfs.inner_pid(pid) == _PROGRAM:
                return pid
    return None


def find_leader(job_id: str, pid: int | None) -> Stat | None:
    """Return the leader of a job by its mark and, where that is known, by its pid.

    Without the pid it is the oldest process with the mark that is the first of its session. A
    process in the session of another one was left behind by a leader that has ended.
    """
    leaders = [
        each for each in members(job_id) if each.session == each.pid and pid in (None, each.pid)
    ]
    return min(leaders, key=lambda each: each.start_time, default=None)


def send(target: Stat, signum: int, then: int | None = None) -> bool:
    """Send a signal, `then` another one, to exactly the process that `target` describes.

    Returns False if it has ended or if we have no right to signal it.
    """
    try:
        pidfd = os.pidfd_open(target.pid)
    except OSError:
        return False
    try:
        now = procfs.stat(target.pid)
        if now is None or now.start_time != target.start_time or now.ended:
            return False
        signal.pidfd_send_signal(pidfd, signum)
        if then is not None:
            with contextlib.suppress(OSError):  # it may have ended by the first one
                signal.pidfd_send_signal(pidfd, then)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def send_each(targets: Iterable[Stat], signum: int) -> set[int]:
    """Send a signal to each process; return the pids of those that got it."""
    return {each.pid for each in targets if send(each, signum)}


def send_all(targets: Iterable[Stat], signum: int) -> set[int]:
    """Send a signal to each process and continue it; return the pids of those that got it.

    A stopped process acts on a signal only when it is continued. It is continued without a look
    whether it is stopped, because a SIGSTOP may still be on its way. systemd does the same.
    """
    wake = None if signum == signal.SIGKILL else signal.SIGCONT
    return {each.pid for each in targets if send(each, signum, wake)}
