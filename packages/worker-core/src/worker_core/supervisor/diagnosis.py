"""Why a process could not be started, in the words of a shell."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from worker_core import encoding

NOT_EXECUTABLE = 126  # the exit codes of a POSIX shell for these two
NOT_FOUND = 127


class NotStartedError(Exception):
    """The job cannot be started; the message is its reason, `exit_code` a shell's code for it."""

    def __init__(self, reason: str, exit_code: int = NOT_EXECUTABLE) -> None:
        self.exit_code = exit_code
        super().__init__(reason)


def diagnose(error: OSError, command: str, env: dict[str, str], cwd: str) -> NotStartedError:
    """Say in a shell's words why a process could not be started."""
    if error.filename in (cwd, encoding.encode(cwd)) and _cwd_fails(cwd):
        return NotStartedError(f"cannot change to working directory {cwd}: {error.strerror}")
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


def find(command: str, env: dict[str, str], cwd: str) -> str | None:
    """Return the file that a command names, None if there is none."""
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
            wanted = encoding.decode((first[2:].split() or [b""])[0])
            return f"bad interpreter: {wanted}: no such file or directory"
    return "bad interpreter: the program's loader is missing"
