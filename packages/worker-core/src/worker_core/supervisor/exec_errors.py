"""Why a program could not be executed, in the words of a shell."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from worker_core.model import encoding

NOT_EXECUTABLE = 126  # the exit codes of a POSIX shell for these two
NOT_FOUND = 127

_NESTED = 5  # interpreters that are scripts themselves: execve(2) follows no more
LONGEST_PATH = (1 << 17) - len("PATH=") - 1  # bytes: execve(2), MAX_ARG_STRLEN


class NotStartedError(Exception):
    """A job cannot be started; the message is the reason, `exit_code` what a shell would return."""

    def __init__(self, reason: str, exit_code: int = NOT_EXECUTABLE) -> None:
        self.exit_code = exit_code
        super().__init__(reason)


def diagnose(error: OSError, command: str, env: dict[str, str], cwd: str) -> NotStartedError:
    """Return why a program could not be executed, in the words of a shell.

    This looks into the job's files, so it may hang and needs the job's rights. Call it in the child
    or in a launcher, never in the supervisor.
    """
    found = find(command, env, cwd)
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
            return NotStartedError(f"{command}: {_not_allowed(found)}")
        case errno.E2BIG:
            return NotStartedError(f"{command}: argument list too long")
        case errno.ENOEXEC:
            return NotStartedError(
                f"{command}: exec format error (neither a program of this machine nor a script "
                "that begins with #!)"
            )
        case _:
            return NotStartedError(f"{command}: {os.strerror(error.errno or 0)}")


def check_directory(cwd: str) -> None:
    """Raise NotStartedError if a process cannot change to a directory."""
    try:
        fd = os.open(cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise no_directory(cwd, error) from error
    try:
        os.fchdir(fd)
    except OSError as error:
        raise no_directory(cwd, error) from error
    finally:
        os.close(fd)
        os.chdir("/")


def no_directory(cwd: str, error: OSError) -> NotStartedError:
    """Return the error that a process cannot change to a directory."""
    return NotStartedError(f"cannot change to working directory {cwd}: {error.strerror}")


def find(command: str, env: dict[str, str], cwd: str) -> str | None:
    """Return the file that a command names, None if it does not exist."""
    if "/" in command:
        path = os.path.join(cwd, command)
        return path if os.path.lexists(path) else None
    places = [os.path.join(cwd, each) for each in candidates(command, env)]
    return next((each for each in places if os.path.exists(each)), None)


def candidates(command: str, env: dict[str, str]) -> list[str]:
    """Return the paths at which a command without a slash may be, each once.

    They are relative to the working directory where PATH has relative directories.
    """
    if len(env["PATH"]) > LONGEST_PATH:
        raise NotStartedError(
            f"{command}: argument list too long: PATH has {len(env['PATH'])} bytes, and no program "
            f"can get a variable of more than {LONGEST_PATH}"
        )
    return [os.path.join(each, command) for each in dict.fromkeys(env["PATH"].split(":"))]


def choose(command: str, env: dict[str, str], cwd: str) -> str:
    """Return the file to execute for a command, as execvp(3) finds it.

    A relative path is relative to `cwd`. Raises OSError as execve(2) would.
    """
    if "/" in command:
        return command
    refused = None
    for each in candidates(command, env):
        place = os.path.join(cwd, each)
        try:
            if stat.S_ISREG(os.stat(place).st_mode) and os.access(place, os.X_OK):
                return each
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                refused = error
            continue
        refused = OSError(errno.EACCES, os.strerror(errno.EACCES), each)
    raise refused or OSError(errno.ENOENT, os.strerror(errno.ENOENT), command)


def _interpreter(path: str) -> str:
    """Return why execve(2) reports "no such file" for a file that exists.

    Its interpreter or its loader is missing.
    """
    with contextlib.suppress(OSError):
        if os.path.islink(path) and not os.path.exists(path):
            return "no such file or directory (a dangling link)"
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "not a file that can be executed"
        wanted = _missing(path)
        if wanted is not None:
            why = "no such file or directory"
            if wanted.endswith("\r"):
                wanted = wanted.replace("\r", "\\r")
                why += " (the first line ends with a carriage return, as lines on Windows do)"
            return f"bad interpreter: {wanted}: {why}"
    return "bad interpreter: the program's loader is missing"


def _not_allowed(path: str | None) -> str:
    """Return why execve(2) reports "permission denied": the file, an interpreter, or a mount."""
    why = "permission denied (not executable)"
    with contextlib.suppress(OSError):
        if path is None or not _is_executable(path):
            return why
        for each in [path, *_interpreters(path)]:
            prefix = "" if each == path else f"bad interpreter: {each}: "
            if not _is_executable(each):
                return prefix + why
            if os.statvfs(each).f_flag & os.ST_NOEXEC:
                return f"{prefix}permission denied (its file system is mounted noexec)"
    return why


def _is_executable(path: str) -> bool:
    mode = os.stat(path).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _missing(path: str) -> str | None:
    """Return the interpreter that does not exist: of a script, or of its interpreter."""
    return next((each for each in _interpreters(path) if not os.path.exists(each)), None)


def _interpreters(path: str) -> list[str]:
    """Return the interpreters of a script, as the kernel reads the first line of each.

    The last one may not exist.
    """
    found: list[str] = []
    while len(found) < _NESTED:
        try:
            first = _beginning(path).partition(b"\n")[0]
        except OSError:
            break
        words = first[2:].replace(b"\t", b" ").split(b" ")
        name = next((word for word in words if word), b"")
        if not first.startswith(b"#!") or not name:
            break
        path = encoding.decode(name)
        found.append(path)
    return found


def _beginning(path: str) -> bytes:
    """Return the part of a program that the kernel reads; nothing if it is not a regular file.

    A FIFO may have taken the place of the file meanwhile; opening it must not wait for a writer.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return os.read(fd, 256) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
