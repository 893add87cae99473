"""From a spec to a running process, or to the sentence that says why there is none.

posix_spawn(3) is as fast as a program in C is (2,180 spawns per second). What it does not offer
takes the slower way of spawn.py, and so does what would have to wait for its control group
(cgroup.py). All of this may hang on what the job names, so it runs in a launcher (launcher.py).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from worker_core import enforcement
from worker_core.disk.jobdir import JobDir
from worker_core.linux import libc, posix_spawn, usage
from worker_core.model import encoding
from worker_core.supervisor import cgroup, fork_exec, fsuid, identity, tree
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.exec_errors import (
    NotStartedError,
    check_directory,
    choose,
    diagnose,
    find,
    no_directory,
)
from worker_core.supervisor.identity import Account
from worker_core.supervisor.namespaces import Sandbox

_SHORTAGE = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_COVERED = ("/tmp/", "/var/tmp/")  # noqa: S108  # by private_tmp

# What unshare(2) and mount(2) say where namespaces are not to be had.
_NO_NAMESPACES = {errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS}

_PATH = "/usr/local/bin:/usr/bin:/bin"
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


BeforeFork = Callable[[dict[str, str | None]], None]
"""Called, with what enforces each limit, when nothing that may hang is left before the fork."""


Forked = Callable[[int], None]
"""Called with the leader's pid, if possible before it executes its program."""


class ShortageError(Exception):
    """The machine has no process, memory or descriptor to spare now; trying again may help."""


@dataclass(frozen=True)
class Launched:
    """A job's leader, and what enforces each of its limits: "cgroup", "rlimit" or nothing."""

    pid: int
    enforced: dict[str, str | None]


@dataclass(frozen=True)
class _Program:
    """What is executed, in what surroundings."""

    argv: list[str]
    env: dict[str, str]
    cwd: str


def launch(
    jobdir: JobDir,
    spec: dict[str, Any],
    groups: Cgroups | None,
    before_fork: BeforeFork,
    forked: Forked,
    *,
    root_jobs: bool,
) -> Launched:
    """Start the leader of a job, a child of this process.

    It leads a session of its own, has its spool files as stdout and stderr and no other
    descriptor but stdin, default signal dispositions, and a clean environment. Its group and its
    mark are on it before exec. `root_jobs` lets an engine that is not root have jobs as root.

    Raises NotStartedError or ShortageError.
    """
    who = _account(spec, root_jobs=root_jobs)
    cwd = spec["cwd"] or (who.home if os.path.isdir(who.home) else "/")
    env = environment(jobdir.job_id, who, spec["env"])
    program = _Program([spec["command"], *spec["args"]], env, cwd)
    _refuse_nul(program)
    box = _box(spec)
    if box is not None and box.private_tmp:
        _refuse_hidden(program, box.writable)
    plan = _plan(spec, groups, cwd)
    with contextlib.ExitStack() as stack:
        stdio = _open_stdio(stack, jobdir, spec)
        way = _way(program, stdio, plan, box, who)
        if way is None and groups is not None and groups.forks_sooner():
            way = _forked(program, stdio)
        path = _chosen(program) if way is None else ""
        try:
            stack.enter_context(tree.marked(jobdir.job_id))
            if groups is not None and way is None:
                stack.enter_context(groups.placed(jobdir.job_id))
            elif groups is not None and way is not None:
                way = replace(way, group=groups.make(jobdir.job_id, plan.group_files))
        except OSError as error:
            if plan.group_files and error.errno not in _SHORTAGE:
                raise NotStartedError(f"cannot limit the job: {error}") from error
            raise ShortageError(str(error)) from error
        before_fork(plan.enforced)
        if way is None:
            pid = _spawn_fast(program, path, stdio)
        else:
            pid = _spawn(program, replace(way, forked=forked))
    return Launched(pid, plan.enforced)


def _account(spec: dict[str, Any], *, root_jobs: bool) -> Account:
    """Return who the job runs as: who is asked for, else who has asked."""
    name = spec.get("run_as")
    if name is None and fsuid.engine is not None:
        name = fsuid.engine.pw_name
    try:
        found = identity.own() if name is None else identity.find(name)
    except identity.AccountError as error:
        raise NotStartedError(str(error)) from error
    except OSError as error:
        raise ShortageError(str(error)) from error
    if found.uid == 0 and fsuid.engine is not None and not root_jobs:
        raise NotStartedError(
            f"cannot run as {found.name}: this supervisor runs no jobs as root; start it with "
            "--root-jobs"
        )
    return found


def _plan(spec: dict[str, Any], groups: Cgroups | None, cwd: str) -> enforcement.Plan:
    controllers = groups.controllers if groups is not None else ()
    cure = cgroup.cure(groups)
    bounds = dict(spec.get("limits", {}))
    if "pids" in bounds and spec.get("isolation", {}).get("pid_namespace"):
        bounds["pids"] += usage.SANDBOX_PROCESSES
    try:
        return enforcement.plan(bounds, controllers, cure, cwd)
    except enforcement.UnenforceableError as error:
        raise NotStartedError(str(error)) from error


def _box(spec: dict[str, Any]) -> Sandbox | None:
    wanted = spec.get("isolation", {})
    if not wanted:
        return None
    return Sandbox(**wanted | {"writable": tuple(wanted.get("writable", ()))})


def _open_stdio(
    stack: contextlib.ExitStack, jobdir: JobDir, spec: dict[str, Any]
) -> tuple[int, int, int]:
    try:
        path = spec.get("stdin")
        stdin = _null() if path is None else _open_stdin(stack, path)
    except OSError as error:
        if error.errno in _SHORTAGE:
            raise ShortageError(str(error)) from error
        raise NotStartedError(f"stdin: {error.filename}: {error.strerror}") from error
    try:
        stdout = open_spool(stack, jobdir, "stdout")
        stderr = open_spool(stack, jobdir, "stderr") if spec["separate_stderr"] else stdout
    except OSError as error:
        raise ShortageError(str(error)) from error
    return stdin, stdout, stderr


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _open_stdin(stack: contextlib.ExitStack, path: str) -> int:
    # To open a FIFO, or a device that is not ready, may take for ever, and all jobs with it.
    fd = _open_input(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        raise NotStartedError(f"stdin: {path}: is a FIFO; only a file can be read")
    if fsuid.engine is not None and os.fstat(fd).st_dev == os.stat("/proc").st_dev:
        # What is there depends on who reads it, and that would be a process of root.
        raise NotStartedError(f"stdin: {path}: is in /proc; only a file can be read")
    os.set_blocking(fd, True)
    return fd


def _open_input(path: str, flags: int) -> int:
    if fsuid.engine is None:
        return os.open(path, flags)
    return libc.open_without_magic(path, flags)


def _spawn_fast(program: _Program, path: str, stdio: tuple[int, int, int]) -> int:
    mask = os.umask(0o022)
    try:
        argv, env = _encoded(program.argv), _encoded_env(program.env)
        return posix_spawn.spawn(
            encoding.encode(path), argv, env, encoding.encode(program.cwd), stdio
        )
    except OSError as error:
        if error.errno in _SHORTAGE:
            raise ShortageError(str(error)) from error
        check_directory(program.cwd)
        raise diagnose(error, program.argv[0], program.env, program.cwd) from error
    finally:
        os.umask(mask)


def _chosen(program: _Program) -> str:
    try:
        return choose(program.argv[0], program.env, program.cwd)
    except OSError as error:
        check_directory(program.cwd)
        raise diagnose(error, program.argv[0], program.env, program.cwd) from error


def _way(
    program: _Program,
    stdio: tuple[int, int, int],
    plan: enforcement.Plan,
    box: Sandbox | None,
    who: Account,
) -> fork_exec.Way | None:
    """Return what a child has to do that `subprocess` does not offer, None if there is nothing."""
    other = who != identity.own() or fsuid.engine is not None
    if not (plan.rlimits or plan.group_files or box is not None or other):
        return None
    way = _forked(program, stdio)
    return replace(way, rlimits=plan.rlimits, box=box, account=who if other else None)


def _forked(program: _Program, stdio: tuple[int, int, int]) -> fork_exec.Way:
    argv, env = _encoded(program.argv), _encoded_env(program.env)
    return fork_exec.Way(argv, env, encoding.encode(program.cwd), stdio)


def _spawn(program: _Program, way: fork_exec.Way) -> int:
    try:
        return fork_exec.spawn(way)
    except fork_exec.StepError as error:
        raise _step_failed(error, program) from error
    except OSError as error:
        raise ShortageError(str(error)) from error


def _step_failed(error: fork_exec.StepError, program: _Program) -> NotStartedError:
    if error.step == "working directory":
        return no_directory(program.cwd, OSError(error.errno, os.strerror(error.errno)))
    if error.step == "exec":
        return NotStartedError(error.detail or program.argv[0], error.exit_code)
    if error.step == "writable":
        return NotStartedError(f"cannot leave {error.detail} writable: {os.strerror(error.errno)}")
    cure = ""
    if error.step == "isolation" and error.errno in _NO_NAMESPACES:
        cure = (
            "; isolation needs a kernel that lets users make namespaces "
            "(user.max_user_namespaces, kernel.unprivileged_userns_clone), or the service "
            "worker-supervisor"
        )
    return NotStartedError(f"cannot set up the job: {error}{cure}")


def open_spool(stack: contextlib.ExitStack, jobdir: JobDir, stream: str) -> int:
    """Open a spool file for appending, created with mode 0600."""
    fd = jobdir.open_stream(stream)
    stack.callback(os.close, fd)
    return fd


def environment(job_id: str, who: Account, given: dict[str, str]) -> dict[str, str]:
    """Return the clean environment of a job: nothing of ours but LANG and TZ."""
    clean = {
        "PATH": _PATH if who.uid else _ROOT_PATH,
        "HOME": who.home,
        "USER": who.name,
        "LOGNAME": who.name,
        "SHELL": who.shell,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "WORKER_JOB_ID": job_id,
    }
    if "TZ" in os.environ:
        clean["TZ"] = os.environ["TZ"]
    return clean | given


def _encoded(texts: list[str]) -> list[bytes]:
    return [encoding.encode(each) for each in texts]


def _encoded_env(env: dict[str, str]) -> dict[bytes, bytes]:
    return {encoding.encode(key): encoding.encode(value) for key, value in env.items()}


def _refuse_hidden(program: _Program, writable: Iterable[str]) -> None:
    """Refuse what is where the box will have an empty directory."""
    command = find(program.argv[0], program.env, program.cwd)
    for what, paths in {
        "working directory": [program.cwd],
        "writable": writable,
        "command": [command] if command else [],
    }.items():
        for path in paths:
            if os.path.realpath(path).startswith(_COVERED):
                raise NotStartedError(
                    f"{what} {path}: hidden by private_tmp, which gives the job an empty directory "
                    "of its own there"
                )


def _refuse_nul(program: _Program) -> None:
    shown = program.argv[0].replace("\0", "\\0")
    for at, each in enumerate(program.argv):
        if "\0" in each:
            where = "the command" if at == 0 else f"argument {at}"
            raise NotStartedError(f"{shown}: {where} contains a NUL byte, which no program can get")
    for key, value in program.env.items():
        if "\0" in key + value:
            shown_key = key.replace("\0", "\\0")
            raise NotStartedError(f"{shown}: environment variable {shown_key} contains a NUL byte")
    if "\0" in program.cwd:
        raise NotStartedError(f"{shown}: the working directory contains a NUL byte")
