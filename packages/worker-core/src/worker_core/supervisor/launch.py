"""From a spec to a running process, or to the sentence that says why there is none.

`subprocess.Popen` without a preexec function uses vfork (1,450 spawns per second against 610 to 880
with fork) and reports what failed in the child, chdir and exec apart.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import stat
import subprocess
from typing import Any

from worker_core import crash
from worker_core.jobdir import JobDir
from worker_core.supervisor import tree
from worker_core.supervisor.cgroup import Cgroups

NOT_EXECUTABLE = 126  # the exit codes of a POSIX shell for these two
NOT_FOUND = 127

_SHORTAGE = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_PATH = "/usr/local/bin:/usr/bin:/bin"
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotStartedError(Exception):
    """The job cannot be started; the message is its reason, `exit_code` a shell's code for it."""

    def __init__(self, reason: str, exit_code: int = NOT_EXECUTABLE) -> None:
        self.exit_code = exit_code
        super().__init__(reason)


class ShortageError(Exception):
    """The machine has no process, memory or descriptor to spare now; trying again may help."""


def launch(jobdir: JobDir, spec: dict[str, Any], groups: Cgroups | None) -> int:
    """Start the leader of a job; return its pid, a child of this process.

    It leads a session of its own, has its spool files as stdout and stderr and no other
    descriptor but stdin, default signal dispositions, and a clean environment.
    """
    argv = [spec["command"], *spec["args"]]
    env = environment(jobdir.job_id, spec["env"])
    cwd = spec["cwd"] or home()
    _refuse_nul(argv, spec, cwd)
    with contextlib.ExitStack() as stack:
        try:
            stdin = _open(stack, spec.get("stdin") or os.devnull, os.O_RDONLY)
        except OSError as error:
            if error.errno in _SHORTAGE:
                raise ShortageError(str(error)) from error
            raise NotStartedError(f"stdin: {error.filename}: {error.strerror}") from error
        try:
            stdout = open_spool(stack, jobdir, "stdout")
            stderr = open_spool(stack, jobdir, "stderr") if spec["separate_stderr"] else stdout
            stack.enter_context(tree.marked(jobdir.job_id))
            if groups is not None:
                stack.enter_context(groups.placed(jobdir.job_id))
        except OSError as error:
            raise ShortageError(str(error)) from error
        pid = _spawn(argv, env, cwd, (stdin, stdout, stderr))
    crash.point("supervisor.forked")
    return pid


def _spawn(argv: list[str], env: dict[str, str], cwd: str, stdio: tuple[int, int, int]) -> int:
    stdin, stdout, stderr = stdio
    try:
        process = subprocess.Popen(
            [os.fsencode(each) for each in argv],
            env={os.fsencode(key): os.fsencode(value) for key, value in env.items()},
            cwd=os.fsencode(cwd),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            umask=0o022,
        )
    except OSError as error:
        if error.errno in _SHORTAGE:
            raise ShortageError(str(error)) from error
        raise _diagnosis(error, argv[0], env, cwd) from error
    process.returncode = 0  # this loop reaps it, not the Popen object
    return process.pid


def open_spool(stack: contextlib.ExitStack, jobdir: JobDir, stream: str) -> int:
    """Open a spool file for appending, created with mode 0600."""
    return _open(stack, jobdir.stream(stream), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def environment(job_id: str, given: dict[str, str]) -> dict[str, str]:
    """Return the clean environment of a job: nothing of ours but LANG and TZ."""
    user = _account()
    clean = {
        "PATH": _PATH if os.geteuid() else _ROOT_PATH,
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell or "/bin/sh",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "WORKER_JOB_ID": job_id,
    }
    if "TZ" in os.environ:
        clean["TZ"] = os.environ["TZ"]
    return clean | given


def home() -> str:
    """Return the home of the Unix user that jobs run as, / if it is missing."""
    found = _account().pw_dir
    return found if os.path.isdir(found) else "/"


@functools.cache
def _account() -> pwd.struct_passwd:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid)
    except KeyError:  # a uid without an entry, as in some containers
        return pwd.struct_passwd((str(uid), "x", uid, os.getegid(), "", "/", "/bin/sh"))


def _open(stack: contextlib.ExitStack, path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, fd)
    return fd


def _refuse_nul(argv: list[str], spec: dict[str, Any], cwd: str) -> None:
    shown = argv[0].replace("\0", "\\0")
    for at, each in enumerate(argv):
        if "\0" in each:
            where = "the command" if at == 0 else f"argument {at}"
            raise NotStartedError(f"{shown}: {where} contains a NUL byte, which no program can get")
    for key, value in spec["env"].items():
        if "\0" in key + value:
            shown_key = key.replace("\0", "\\0")
            raise NotStartedError(f"{shown}: environment variable {shown_key} contains a NUL byte")
    if "\0" in cwd:
        raise NotStartedError(f"{shown}: the working directory contains a NUL byte")


def _diagnosis(error: OSError, command: str, env: dict[str, str], cwd: str) -> NotStartedError:
    """Say in a shell's words why a process could not be started."""
    if error.filename is not None and os.fsdecode(error.filename) == cwd and _cwd_fails(cwd):
        return NotStartedError(f"cannot change to working directory {cwd}: {error.strerror}")
    found = _find(command, env, cwd)
    match error.errno:
        case errno.ENOENT if found is None and "/" not in command:
            return NotStartedError(f"{command}: command not found", NOT_FOUND)
        case errno.ENOENT if found is None:
            return NotStartedError(f"{command}: no such file or directory", NOT_FOUND)
        case errno.ENOENT:
            return NotStartedError(f"{command}: {_interpreter(str(found))}", NOT_EXECUTABLE)
        case errno.EACCES if found is not None and os.path.isdir(found):
            return NotStartedError(f"{command}: is a directory")
        case errno.EACCES:
            return NotStartedError(f"{command}: permission denied (not executable)")
        case errno.E2BIG:
            return NotStartedError(f"{command}: argument list too long")
        case errno.ENOEXEC:
            return NotStartedError(
                f"{command}: exec format error (neither a program of this machine nor a script "
                "that begins with #!)"
            )
        case _:
            return NotStartedError(f"{command}: {os.strerror(error.errno or 0)}")


def _cwd_fails(cwd: str) -> bool:
    return not (os.path.isdir(cwd) and os.access(cwd, os.X_OK))


def _find(command: str, env: dict[str, str], cwd: str) -> str | None:
    if "/" in command:
        path = os.path.join(cwd, command)
        return path if os.path.lexists(path) else None
    places = [os.path.join(cwd, each, command) for each in env["PATH"].split(":")]
    return next((each for each in places if os.path.exists(each)), None)


def _interpreter(path: str) -> str:
    """Exec says "no such file" of a file that exists: what is missing is what should read it."""
    with contextlib.suppress(OSError):
        if os.path.islink(path) and not os.path.exists(path):
            return "no such file or directory (a dangling link)"
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "not a file that can be executed"
        with open(path, "rb") as file:
            first = file.readline(256)
        if first.startswith(b"#!"):
            wanted = os.fsdecode((first[2:].split() or [b""])[0])
            return f"bad interpreter: {wanted}: no such file or directory"
    return "bad interpreter: the program's loader is missing"
