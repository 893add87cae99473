"""Which processes belong to a job, and how to signal all of them and nobody else.

Every process of a job carries the job's mark: a soft RLIMIT_RTTIME that is derived from the job's
id. A limit is inherited by fork and kept by exec; unlike a session, a parent or an environment
variable it is not lost by setsid, a double fork or a cleared environment; unlike all of these it is
still there when the supervisor that started the job is gone; and it needs no privilege. As a limit
it is beyond reach: it bounds only threads under real-time scheduling, to some 30,000 years. What
was rejected: supplementary groups (need root), the environment alone (is cleared by `env -i`), one
more process for each job as its subreaper (memory, and one more thing to die).

On top of the mark: the leader's session while the leader is unreaped (its pid cannot name another
session then), and whatever descends from a process found so far.
"""

from __future__ import annotations

import functools
import os
import resource
import signal
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from worker_core.linux import procfs
from worker_core.linux.procfs import Stat
from worker_core.supervisor import fsuid

_MARK_BIT = 1 << 60
_MARK_BITS = 56

_PROGRAM = 2  # its id in the box, where init is 1


def mark(job_id: str) -> int:
    """Return the mark of a job: a limit in microseconds that no person would set."""
    return _MARK_BIT | uuid.UUID(job_id).int >> (128 - _MARK_BITS)


@functools.cache
def _own_limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_RTTIME)


def can_mark(job_id: str) -> bool:
    """Whether a job can have its mark: nobody has bounded us below it."""
    _, hard = _own_limits()
    return hard == resource.RLIM_INFINITY or hard >= mark(job_id)


@contextmanager
def marked(job_id: str) -> Iterator[None]:
    """Give what is forked in this block the mark of a job, if it can have it."""
    if not can_mark(job_id):
        yield
        return
    soft, hard = _own_limits()
    resource.setrlimit(resource.RLIMIT_RTTIME, (mark(job_id), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))


def members(job_id: str, leader: int | None = None) -> list[Stat]:
    """Return the living processes of a job; `leader` is its pid while that is not reaped."""
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
    """Return the pid of the program of a job with a pid namespace; None once it is gone.

    It is the child that the init of the sandbox forked first (namespaces.py).
    """
    for init in procfs.children(leader):
        for pid in procfs.children(init):
            if procfs.inner_pid(pid) == _PROGRAM:
                return pid
    return None


def find_leader(job_id: str, pid: int | None) -> Stat | None:
    """Return the leader of a job by its mark and, where it is known, its pid.

    Where it is not it is the first that leads a session. What has only a leader's session was left
    behind by one that has ended; and so, perhaps, was what leads one of its own.
    """
    leaders = [
        each for each in members(job_id) if each.session == each.pid and pid in (None, each.pid)
    ]
    return min(leaders, key=lambda each: each.start_time, default=None)


def send(target: Stat, signum: int) -> bool:
    """Signal the very process that `target` describes; False if it has ended or is beyond our
    rights."""
    try:
        pidfd = os.pidfd_open(target.pid)
    except OSError:
        return False
    try:
        now = procfs.stat(target.pid)
        if now is None or now.start_time != target.start_time or now.ended:
            return False
        signal.pidfd_send_signal(pidfd, signum)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def send_all(targets: Iterable[Stat], signum: int) -> set[int]:
    """Signal each, and continue it, so that the signal acts on one that is stopped too.

    Whether it is stopped is not asked: a SIGSTOP may still be on its way. systemd does the same.
    Returns the ids of those that were there to get it.
    """
    reached = set()
    for each in targets:
        if send(each, signum):
            reached.add(each.pid)
            if signum != signal.SIGKILL:
                send(each, signal.SIGCONT)
    return reached
