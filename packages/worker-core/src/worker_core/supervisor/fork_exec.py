"""Start a process whose way from fork to exec needs more than `subprocess` offers.

For jobs with limits, another account or a box, and while few jobs are started; all others take the
faster way in launch.py. A launcher has one thread, so Python may run in the child. What is set
between fork and exec, in this order:

    group        the job's control group, with its limits
    session      the leader leads a session of its own
    descriptors  stdin, stdout, stderr, and nothing else
    signals      default dispositions
    box          namespaces and mounts (namespaces.py)
    rlimits
    account      groups, gid, uid
    directory    the working directory, with the rights and through the mounts of the job
    exec

The first step that fails is told to the launcher through a pipe, and ends the child. Why a program
cannot be executed is found out in the child too, with the rights of the job.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from worker_core.model import encoding
from worker_core.supervisor import namespaces
from worker_core.supervisor.cgroup import Entry
from worker_core.supervisor.exec_errors import NOT_EXECUTABLE, NotStartedError, choose, diagnose
from worker_core.supervisor.identity import Account

_LONGEST_REASON = 10_000  # characters: what the pipe takes although nobody reads yet


class StepError(Exception):
    """A step between fork and exec failed: which, and with which error number."""

    def __init__(
        self, step: str, number: int, detail: str | None, exit_code: int = NOT_EXECUTABLE
    ) -> None:
        self.step, self.errno, self.detail, self.exit_code = step, number, detail, exit_code
        super().__init__(f"{step}: {os.strerror(number)}{f': {detail}' if detail else ''}")


@dataclass(frozen=True)
class Way:
    """What a child does between fork and exec."""

    argv: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    stdio: tuple[int, int, int]
    rlimits: list[tuple[int, int, int]] = field(default_factory=list)
    box: namespaces.Sandbox | None = None
    account: Account | None = None
    group: Entry = field(default_factory=Entry)
    forked: Callable[[int], None] = lambda _: None  # called in the parent at once


def spawn(way: Way) -> int:
    """Start a process; return its pid once it has executed its program. Raises StepError."""
    report, error = os.pipe()
    with open(report, "rb") as pipe:
        try:
            pid = way.group.fork()
            if pid == 0:
                _child(way, error)
            way.forked(pid)
        finally:
            os.close(error)
        failed = pipe.read()
    if failed:
        os.waitpid(pid, 0)
        raise StepError(*json.loads(failed))
    return pid


def _child(way: Way, error: int) -> NoReturn:
    step = "start"

    def run(name: str, action: Callable[[], object]) -> None:
        nonlocal step
        step = name
        action()

    try:
        run("control group", way.group.enter)
        run("session", os.setsid)
        error = _take_descriptors(way.stdio, error)
        run("signals", _reset_signals)
        run("umask", lambda: os.umask(0o022))
        inside = way.box
        if inside is not None:
            if way.account is not None:
                run("account", way.account.use_files)  # a box may be in a home that is private
            run("working directory", lambda: os.chdir(way.cwd))  # the box needs it to be there
            run("writable", lambda: [os.stat(path) for path in inside.writable])
            run("isolation", lambda: namespaces.enter(inside, encoding.decode(way.cwd), error))
            _reset_signals()
        run("limits", lambda: _set_rlimits(way.rlimits))
        if way.account is not None:
            run("account", way.account.become)
        run("working directory", lambda: os.chdir(way.cwd))
        run("exec", lambda: _execute(way))
    except BaseException as failure:  # noqa: BLE001  # nothing may run on in this child
        number = getattr(failure, "errno", None) or errno.EIO
        told = [step, number, _detail(failure)]
        if step == "exec":
            told[2:] = _diagnosis(failure, way)
        for _ in range(3):  # without it this would look like the program's own exit code 127
            with contextlib.suppress(OSError):
                os.write(error, json.dumps(told).encode())
                break
    os._exit(127)


def _execute(way: Way) -> None:
    command, env, cwd = _decoded(way)
    path = choose(command, env, cwd)
    os.execve(encoding.encode(path), way.argv, way.env)  # noqa: S606


def _diagnosis(failure: BaseException, way: Way) -> tuple[str, int]:
    """Return the reason and exit code of a program that cannot be executed: as the job sees it."""
    if isinstance(failure, OSError):
        failure = diagnose(failure, *_decoded(way))
    code = failure.exit_code if isinstance(failure, NotStartedError) else NOT_EXECUTABLE
    return str(failure)[:_LONGEST_REASON], code


def _decoded(way: Way) -> tuple[str, dict[str, str], str]:
    env = {"PATH": encoding.decode(way.env[b"PATH"])}
    return encoding.decode(way.argv[0]), env, encoding.decode(way.cwd)


def _detail(failure: BaseException) -> str | None:
    """Return what there is to say besides the error number: which file, or all of it."""
    if not isinstance(failure, OSError):
        return repr(failure)
    return failure.filename if isinstance(failure.filename, str) else None


def _take_descriptors(stdio: tuple[int, int, int], error: int) -> int:
    """Leave 0, 1, 2 and the pipe for errors, which becomes 3 and closes at exec."""
    # Out of the way first: none of what is copied may be overwritten before it is copied.
    copies = [os.dup(fd) for fd in (*stdio, error)]
    high = [_above(fd) for fd in copies]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target < 3)
    os.closerange(4, max(int(name) for name in os.listdir("/proc/self/fd")) + 1)
    return 3


def _above(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


def _set_rlimits(rlimits: list[tuple[int, int, int]]) -> None:
    for kind, soft, hard in rlimits:
        resource.setrlimit(kind, (soft, hard))


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(signum) is not signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
