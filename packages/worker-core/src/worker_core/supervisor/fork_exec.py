"""Start a process by fork and exec, with steps between the two that posix_spawn does not offer.

For jobs with limits, a sandbox or another account, and for plain jobs while few are started
(launch.py). A launcher has one thread, so Python may run in the forked child. The steps, in order:

    group        the job's control group, with its limits
    session      the leader leads a session of its own
    descriptors  stdin, stdout, stderr, and nothing else
    signals      default dispositions
    sandbox      namespaces and mounts (namespaces.py)
    rlimits
    account      groups, gid, uid
    directory    the working directory, with the rights and through the mounts of the job
    exec

A step that fails ends the child, which reports it to the launcher through a pipe. The child itself
finds out why a program cannot be executed, because it has the rights of the job.
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

from worker_core.disk import files
from worker_core.model import encoding
from worker_core.supervisor import namespaces
from worker_core.supervisor.cgroup import CgroupEntry
from worker_core.supervisor.exec_errors import NOT_EXECUTABLE, NotStartedError, choose, diagnose
from worker_core.supervisor.identity import Account

_LONGEST_REASON = 10_000  # characters; the pipe holds as many before they are read


class StepError(Exception):
    """A step between fork and exec failed: which, and with which error number."""

    def __init__(
        self, step: str, number: int, detail: str | None, exit_code: int = NOT_EXECUTABLE
    ) -> None:
        self.step, self.errno, self.detail, self.exit_code = step, number, detail, exit_code
        super().__init__(f"{step}: {os.strerror(number)}{f': {detail}' if detail else ''}")


@dataclass(frozen=True)
class ChildSetup:
    """What a child does between fork and exec."""

    argv: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    stdio: tuple[int, int, int]
    rlimits: list[tuple[int, int, int]] = field(default_factory=list)
    sandbox: namespaces.Sandbox | None = None
    account: Account | None = None
    group: CgroupEntry = field(default_factory=CgroupEntry)
    forked: Callable[[int], None] = lambda _: None  # called in the parent right after the fork


def spawn(setup: ChildSetup) -> int:
    """Start a process; return its pid once it has executed its program. Raises StepError."""
    report, error = os.pipe()
    try:
        try:
            pid = setup.group.fork()
            if pid == 0:
                _child(setup, error)
            setup.forked(pid)
        finally:
            os.close(error)
        failure = files.read_all(report)
    finally:
        os.close(report)
    if failure:
        os.waitpid(pid, 0)
        raise StepError(*json.loads(failure))
    return pid


def _child(setup: ChildSetup, error: int) -> NoReturn:
    step = "start"

    def run(name: str, action: Callable[[], object]) -> None:
        nonlocal step
        step = name
        action()

    try:
        run("control group", setup.group.enter)
        run("session", os.setsid)
        error = _take_descriptors(setup.stdio, error)
        run("signals", _reset_signals)
        run("umask", lambda: os.umask(0o022))
        sandbox = setup.sandbox
        if sandbox is not None:
            if setup.account is not None:
                run("account", setup.account.use_files)  # for a sandbox in a private home
            run("working directory", lambda: os.chdir(setup.cwd))  # the sandbox needs it
            run("writable", lambda: [os.stat(path) for path in sandbox.writable])
            run("isolation", lambda: namespaces.enter(sandbox, encoding.decode(setup.cwd), error))
            _reset_signals()
        run("limits", lambda: _set_rlimits(setup.rlimits))
        if setup.account is not None:
            run("account", setup.account.become)
        run("working directory", lambda: os.chdir(setup.cwd))
        run("exec", lambda: _execute(setup))
    except BaseException as failure:  # noqa: BLE001  # this child must end here
        number = getattr(failure, "errno", None) or errno.EIO
        report = [step, number, _detail(failure)]
        if step == "exec":
            report[2:] = _diagnosis(failure, setup)
        for _ in range(3):  # without the report this looks like the program's own exit code 127
            with contextlib.suppress(OSError):
                os.write(error, json.dumps(report).encode())
                break
    os._exit(127)


def _execute(setup: ChildSetup) -> None:
    command, env, cwd = _decoded(setup)
    path = choose(command, env, cwd)
    os.execve(encoding.encode(path), setup.argv, setup.env)  # noqa: S606


def _diagnosis(failure: BaseException, setup: ChildSetup) -> tuple[str, int]:
    """Return why the program cannot be executed, as the job sees it, and the exit code for that."""
    if isinstance(failure, OSError):
        failure = diagnose(failure, *_decoded(setup))
    code = failure.exit_code if isinstance(failure, NotStartedError) else NOT_EXECUTABLE
    return str(failure)[:_LONGEST_REASON], code


def _decoded(setup: ChildSetup) -> tuple[str, dict[str, str], str]:
    env = {"PATH": encoding.decode(setup.env[b"PATH"])}
    return encoding.decode(setup.argv[0]), env, encoding.decode(setup.cwd)


def _detail(failure: BaseException) -> str | None:
    """Return what the error number does not show: the file, or the text of another exception."""
    if not isinstance(failure, OSError):
        return repr(failure)
    return failure.filename if isinstance(failure.filename, str) else None


def _take_descriptors(stdio: tuple[int, int, int], error: int) -> int:
    """Leave 0, 1, 2 and the pipe for errors, which becomes 3 and closes at exec."""
    # Copied to high numbers first, so that no dup2 overwrites a descriptor that is still needed.
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
