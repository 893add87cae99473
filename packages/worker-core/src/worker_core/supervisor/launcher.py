"""A launcher: a small process that starts jobs, because the supervisor must not wait for a start.

All launchers share one socket. A launcher takes one start at a time from it and does everything for
this start that may hang: it looks at the job's directory, command and input, asks the user
database, forks and executes. Then it reports to the supervisor. It is the parent of the leaders
that it starts, reaps them, and reports each end. A launcher that hangs takes no other start. When a
launcher dies its children come to the supervisor, which is their subreaper, and its slot (slots.py)
says what it was working on.

Reports, each a datagram of its own:

    ("planned", job id, what enforces each limit)          before the fork of a job with limits
    ("forked", job id, pid)                                if it was forked: before exec
    ("begun", job id, pid, what enforces each limit, monotonic time, Unix time)
    ("refused", job id, reason, exit code or None)
    ("short", job id, what the machine is short of)
    ("ended", job id, pid, wait status, (user seconds, system seconds, peak of memory or None))
"""

from __future__ import annotations

import errno
import gc
import logging
import marshal
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from worker_core import failpoints
from worker_core.linux import libc
from worker_core.supervisor import slots, start_message
from worker_core.supervisor.exec_errors import NOT_EXECUTABLE, NotStartedError
from worker_core.supervisor.launch import BeforeFork, Forked, Launched, ShortageError
from worker_core.supervisor.slots import Slot

log = logging.getLogger(__name__)

NAME = "worker-launcher"  # in /proc/PID/comm, which has room for 15 bytes
_IDLE = 10.0  # seconds without a start after which an additional launcher ends
_EVENTS = 4  # as many as there are descriptors
_LONGEST_REASON = 10_000  # characters, of up to four bytes; `Launchers` receives 64 KiB at most
_RETRY = 0.01  # seconds
_SHORTAGE = {errno.ENOBUFS, errno.ENOMEM}

Launch = Callable[[str, dict[str, Any], BeforeFork, Forked], Launched]
"""Starts a job."""


class Launcher:
    """The process itself."""

    def __init__(
        self, take: socket.socket, tell: socket.socket, slot: Slot, launch: Launch, *, stays: bool
    ) -> None:
        self._take, self._tell, self._slot, self._launch = take, tell, slot, launch
        self._patience = None if stays else _IDLE
        self._tell_fd = tell.fileno()
        self._job_id = ""
        self._leaders: dict[int, str] = {}  # which job each child leads
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken = woken
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)  # a launcher ends with the supervisor, not before
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.epoll()
        # One launcher is woken for a start, not all of them.
        self._poll.register(take, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._poll.register(woken, select.EPOLLIN)
        self._poll.register(tell, 0)  # EPOLLHUP: the supervisor is gone
        self._gone = select.poll()
        self._gone.register(tell, 0)
        os.umask(0o022)  # for the jobs
        libc.name_process(NAME)
        libc.set_command_line("worker: launcher of jobs")
        gc.freeze()

    def run(self, first: bytes | None) -> NoReturn:
        """Start jobs, `first` before all others, until the supervisor is gone."""
        if first is not None:
            self._start(*start_message.decode(first))
        while True:
            ready = dict(self._poll.poll(self._patience, _EVENTS))
            if not ready or self._tell_fd in ready:
                os._exit(0)
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._take.fileno() in ready:
                self._take_one()

    def _take_one(self) -> None:
        try:
            message = start_message.receive(self._take)
        except BlockingIOError:  # another launcher was faster
            return
        except start_message.TornError as error:
            self._report("short", error.job_id, str(error))
            return
        if message is None:
            os._exit(0)
        self._start(message.job_id, message.spec)

    def _start(self, job_id: str, spec: dict[str, Any]) -> None:
        self._slot.note(slots.PREPARING, job_id)
        self._job_id = job_id
        failpoints.point("launcher.taken")
        began, at = time.monotonic(), time.time()  # before anything that the job can do
        try:
            launched = self._launch(job_id, spec, self._before_fork, self._forked)
        except NotStartedError as error:
            self._report("refused", job_id, _truncated(str(error)), error.exit_code)
        except (ShortageError, OSError) as error:
            self._report("short", job_id, str(error))
        except Exception as error:
            # An unexpected error must not leave a job that neither runs nor ends.
            log.exception("job %s: cannot be started", job_id)
            reason = _truncated(f"cannot be started: {error}")
            self._report("refused", job_id, reason, NOT_EXECUTABLE)
        else:
            failpoints.point("launcher.forked")
            self._leaders[launched.pid] = job_id
            self._report("begun", job_id, launched.pid, launched.enforced, began, at)
        self._slot.note(slots.IDLE)

    def _before_fork(self, enforced: dict[str, str | None]) -> None:
        if enforced:
            self._report("planned", self._job_id, enforced)
        if self._gone.poll(0):
            os._exit(0)  # the next supervisor may have decided that this job was not started
        self._slot.note_spawning()

    def _forked(self, pid: int) -> None:
        self._report("forked", self._job_id, pid)

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            job_id = self._leaders.pop(found.si_pid, "")
            self._slot.note_end(found.si_pid, _status(found), job_id)
            _, status, used = os.wait4(found.si_pid, 0)
            failpoints.point("launcher.reaped")
            self._report("ended", job_id, found.si_pid, status, rusage(used))
            self._slot.note_end(0, 0)

    def _report(self, *news: Any) -> None:
        data = marshal.dumps(news)
        while True:
            try:
                self._tell.send(data)
            except OSError as error:
                if error.errno not in _SHORTAGE:
                    os._exit(0)
                time.sleep(_RETRY)  # nothing else can be done before this is reported
            else:
                return


def rusage(used: resource.struct_rusage) -> tuple[float, float, int | None]:
    """Return user and system seconds of a child, and its peak of memory in bytes.

    A child inherits the peak of this process at exec. If its own is not higher it is not known, and
    None is returned.
    """
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = used.ru_maxrss * 1024 if used.ru_maxrss > floor else None
    return used.ru_utime, used.ru_stime, peak


def _status(found: os.waitid_result) -> int:
    """Return the result of waitid(2) as a wait status."""
    return found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status


def _truncated(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
