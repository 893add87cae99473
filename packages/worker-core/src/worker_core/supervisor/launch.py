"""Starts the first process of a job from its spec, or raises the reason why it cannot.

A plain job is started by posix_spawn(3), as fast as by a program in C. A job with limits, a sandbox
or another account needs steps that posix_spawn does not offer, and is forked (fork_exec.py). While
few jobs are started, a plain job is forked as well, because then a fork is faster than a move into
a control group (cgroup.py). Everything here may hang on a path that the job names, so it runs in a
launcher (launcher.py).
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from worker_core import enforcement
from worker_core.disk.jobdir import JobDir
from worker_core.linux import libc, posix_spawn, usage
from worker_core.model import encoding
from worker_core.supervisor import cgroup, fork_exec, fsuid, hidden_paths, identity, tree
from worker_core.supervisor.cgroup import CgroupEntry, Cgroups
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

_NO_LIMITS = enforcement.Plan()

_COVERED = ("/tmp/", "/var/tmp/")  # noqa: S108  # by private_tmp

# Errors of unshare(2) and mount(2) where namespaces are not available.
_NO_NAMESPACES = {errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS}

_PATH = "/usr/local/bin:/usr/bin:/bin"
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


BeforeFork = Callable[[dict[str, str | None]], None]
"""Called right before the fork, with what enforces each limit. Nothing before the fork can hang any
more."""


Forked = Callable[[int], None]
"""Called with the leader's pid, if possible before it executes its program."""


class ShortageError(Exception):
    """The machine is short of processes, memory or descriptors; trying again may help."""


@dataclass(frozen=True)
class Launched:
    """A job's leader, and what enforces each of its limits: "cgroup", "rlimit" or None."""

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
    descriptor but stdin, default signal dispositions, and a clean environment. It is in its control
    group and carries its mark before it executes its program. `root_jobs` allows jobs of root under
    an engine that is not root.

    Raises NotStartedError or ShortageError.
    """
    account = _account(spec, root_jobs=root_jobs)
    sandbox = _sandbox(jobdir, spec)
    cwd = spec["cwd"] or _home(account, sandbox)
    env = environment(jobdir.job_id, account, spec["env"])
    program = _Program([spec["command"], *spec["args"]], env, cwd)
    _refuse_nul(program)
    if sandbox is not None:
        _refuse_hidden(program, sandbox)
    plan = _plan(spec, groups, cwd)
    opened: list[int] = []
    try:
        stdio = _open_stdio(opened, jobdir, spec)
        setup = _child_setup(program, stdio, plan, sandbox, account)
        if setup is None and groups is not None and groups.fork_is_faster():
            setup = _plain_setup(program, stdio)
        if setup is None:
            pid = _spawn_in_group(program, stdio, jobdir.job_id, groups, before_fork)
        else:
            setup = replace(setup, group=_entry(jobdir.job_id, groups, plan), forked=forked)
            with tree.marked(jobdir.job_id):
                before_fork(plan.enforced)
                pid = _fork_exec(program, setup)
    finally:
        for fd in opened:
            os.close(fd)
    return Launched(pid, plan.enforced)


def _account(spec: dict[str, Any], *, root_jobs: bool) -> Account:
    """Return the account that the job runs as: that of its spec, else the engine's."""
    name = spec.get("run_as")
    if name is None and fsuid.engine is not None:
        name = fsuid.engine.pw_name
    try:
        account = identity.own() if name is None else identity.find(name)
    except identity.AccountError as error:
        raise NotStartedError(str(error)) from error
    except OSError as error:
        raise ShortageError(str(error)) from error
    if account.uid == 0 and fsuid.engine is not None and not root_jobs:
        raise NotStartedError(
            f"cannot run as {account.name}: this supervisor runs no jobs as root; start it with "
            "--root-jobs"
        )
    return account


def _plan(spec: dict[str, Any], groups: Cgroups | None, cwd: str) -> enforcement.Plan:
    if not spec.get("limits"):
        return _NO_LIMITS
    controllers = groups.controllers if groups is not None else ()
    cure = cgroup.cure(groups)
    bounds = dict(spec.get("limits", {}))
    if "pids" in bounds and spec.get("isolation", {}).get("pid_namespace"):
        bounds["pids"] += usage.SANDBOX_PROCESSES
    try:
        return enforcement.plan(bounds, controllers, cure, cwd)
    except enforcement.UnenforceableError as error:
        raise NotStartedError(str(error)) from error


def _home(account: Account, sandbox: Sandbox | None) -> str:
    """Return the directory of a job that names none: the home, or `/` if that cannot be used."""
    if not os.path.isdir(account.home):
        return "/"
    hidden = () if sandbox is None else sandbox.hidden
    covered = hidden and hidden_paths.covering(account.home, hidden) is not None
    return "/" if covered else account.home


def _sandbox(jobdir: JobDir, spec: dict[str, Any]) -> Sandbox | None:
    wanted = spec.get("isolation", {})
    if not wanted:
        return None
    hidden: tuple[str, ...] = ()
    if wanted.get("read_only"):
        state_dir = os.path.dirname(os.path.dirname(jobdir.path))
        hidden = (state_dir, *(spec.get("hidden") or ()))
    return Sandbox(**wanted | {"writable": tuple(wanted.get("writable", ())), "hidden": hidden})


def _open_stdio(opened: list[int], jobdir: JobDir, spec: dict[str, Any]) -> tuple[int, int, int]:
    """Open the standard descriptors of a job; those to be closed are added to `opened`."""
    try:
        path = spec.get("stdin")
        stdin = _null() if path is None else _open_stdin(opened, path)
    except OSError as error:
        if error.errno in _SHORTAGE:
            raise ShortageError(str(error)) from error
        raise NotStartedError(f"stdin: {error.filename}: {error.strerror}") from error
    try:
        opened.append(stdout := jobdir.open_stream("stdout"))
        if not spec["separate_stderr"]:
            return stdin, stdout, stdout
        opened.append(stderr := jobdir.open_stream("stderr"))
    except OSError as error:
        raise ShortageError(str(error)) from error
    return stdin, stdout, stderr


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _open_stdin(opened: list[int], path: str) -> int:
    # Opening a FIFO, or a device that is not ready, may take for ever.
    fd = _open_input(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    opened.append(fd)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        raise NotStartedError(f"stdin: {path}: is a FIFO; only a file can be read")
    if fsuid.engine is not None and os.fstat(fd).st_dev == os.stat("/proc").st_dev:
        # A file there shows what its reader may see, and this reader is root.
        raise NotStartedError(f"stdin: {path}: is in /proc; only a file can be read")
    os.set_blocking(fd, True)
    return fd


def _open_input(path: str, flags: int) -> int:
    if fsuid.engine is None:
        return os.open(path, flags)
    return libc.open_without_magic(path, flags)


def _spawn_in_group(
    program: _Program,
    stdio: tuple[int, int, int],
    job_id: str,
    groups: Cgroups | None,
    before_fork: BeforeFork,
) -> int:
    path = _chosen(program)
    if groups is not None:
        groups.enter(job_id)
    try:
        with tree.marked(job_id):
            before_fork({})
            return _spawn(program, path, stdio)
    finally:
        if groups is not None:
            groups.leave()


def _spawn(program: _Program, path: str, stdio: tuple[int, int, int]) -> int:
    env = [encoding.encode(f"{name}={value}") for name, value in program.env.items()]
    try:
        return posix_spawn.spawn(
            encoding.encode(path), _encoded(program.argv), env, encoding.encode(program.cwd), stdio
        )
    except OSError as error:
        if error.errno in _SHORTAGE:
            raise ShortageError(str(error)) from error
        check_directory(program.cwd)
        raise diagnose(error, program.argv[0], program.env, program.cwd) from error


def _chosen(program: _Program) -> str:
    try:
        return choose(program.argv[0], program.env, program.cwd)
    except OSError as error:
        check_directory(program.cwd)
        raise diagnose(error, program.argv[0], program.env, program.cwd) from error


def _child_setup(
    program: _Program,
    stdio: tuple[int, int, int],
    plan: enforcement.Plan,
    sandbox: Sandbox | None,
    account: Account,
) -> fork_exec.ChildSetup | None:
    """Return the steps of a child that posix_spawn does not offer; None if there are none."""
    other = fsuid.engine is not None or account != identity.own()
    if not (plan.rlimits or plan.group_files or sandbox is not None or other):
        return None
    setup = _plain_setup(program, stdio)
    return replace(setup, rlimits=plan.rlimits, sandbox=sandbox, account=account if other else None)


def _plain_setup(program: _Program, stdio: tuple[int, int, int]) -> fork_exec.ChildSetup:
    argv, env = _encoded(program.argv), _encoded_env(program.env)
    return fork_exec.ChildSetup(argv, env, encoding.encode(program.cwd), stdio)


def _entry(job_id: str, groups: Cgroups | None, plan: enforcement.Plan) -> CgroupEntry:
    """Make the job's group; return how its child gets into it."""
    if groups is None:
        return CgroupEntry()
    try:
        return groups.make(job_id, plan.group_files)
    except OSError as error:
        if plan.group_files and error.errno not in _SHORTAGE:
            raise NotStartedError(f"cannot limit the job: {error}") from error
        raise ShortageError(str(error)) from error


def _fork_exec(program: _Program, setup: fork_exec.ChildSetup) -> int:
    try:
        return fork_exec.spawn(setup)
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


def environment(job_id: str, account: Account, given: dict[str, str]) -> dict[str, str]:
    """Return the environment of a job: `given`, and LANG and TZ of this process."""
    clean = {
        "PATH": _PATH if account.uid else _ROOT_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "WORKER_JOB_ID": job_id,
    }
    if "TZ" in os.environ:
        clean["TZ"] = os.environ["TZ"]
    return clean | given


def _encoded(texts: list[str]) -> list[bytes]:
    return [encoding.encode(text) for text in texts]


def _encoded_env(env: dict[str, str]) -> dict[bytes, bytes]:
    return {encoding.encode(name): encoding.encode(value) for name, value in env.items()}


def _refuse_hidden(program: _Program, sandbox: Sandbox) -> None:
    """Refuse a path that the sandbox will hide."""
    if not (sandbox.private_tmp or sandbox.hidden):
        return
    command = find(program.argv[0], program.env, program.cwd)
    for what, paths in {
        "working directory": [program.cwd],
        "writable": sandbox.writable,
        "command": [command] if command else [],
    }.items():
        for path in paths:
            if sandbox.private_tmp and os.path.realpath(path).startswith(_COVERED):
                raise NotStartedError(
                    f"{what} {path}: hidden by private_tmp, which gives the job an empty directory "
                    "of its own there"
                )
            if hidden_paths.covering(path, sandbox.hidden) is not None:
                raise NotStartedError(
                    f"{what} {path}: hidden by read_only, because it belongs to the server; choose "
                    "another place"
                )


def _refuse_nul(program: _Program) -> None:
    if "\0" not in "".join((*program.argv, program.cwd, *program.env, *program.env.values())):
        return
    shown = program.argv[0].replace("\0", "\\0")
    for number, argument in enumerate(program.argv):
        if "\0" in argument:
            where = "the command" if number == 0 else f"argument {number}"
            raise NotStartedError(f"{shown}: {where} contains a NUL byte, which no program can get")
    for name, value in program.env.items():
        if "\0" in name + value:
            shown_name = name.replace("\0", "\\0")
            raise NotStartedError(f"{shown}: environment variable {shown_name} contains a NUL byte")
    raise NotStartedError(f"{shown}: the working directory contains a NUL byte")
