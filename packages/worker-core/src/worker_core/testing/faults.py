"""Makes system calls fail on purpose, in this process, at the nth call.

A supervisor that is ready installs the faults in the environment variable WORKER_FAULTS:

    WORKER_FAULTS="fork:3:EAGAIN,rename:1:ENOSPC*5"

makes the third fork fail once with EAGAIN, and the first five renames with ENOSPC.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker_core.disk import files
from worker_core.linux import libc, posix_spawn, procfs

_PLACES: dict[str, tuple[tuple[Any, str], ...]] = {
    "fork": ((os, "fork"), (libc, "fork_into"), (posix_spawn, "spawn")),
    "open": ((os, "open"),),
    "fsync": ((os, "fsync"),),
    "rename": ((os, "rename"),),
    "link": ((os, "link"),),
    "create": ((files, "create"),),
    "write": ((os, "write"),),
    "send": ((socket.socket, "send"), (socket.socket, "sendall")),
    "punch": ((libc, "punch_hole"),),
    "proc": ((procfs, "_read"),),
}
"""What can fail -> the functions through which all calls of it go."""

_FORM = re.compile(r"(\w+):(\d+):(E\w+)(?:\*(\d+))?")


@dataclass
class Fault:
    """The `nth` call of `what`, and `times` - 1 more, fail with an error number."""

    what: str
    nth: int
    errno: int
    times: int = 1
    calls: int = 0

    def check(self) -> None:
        """Count a call; raise OSError if it has to fail."""
        self.calls += 1
        if self.nth <= self.calls < self.nth + self.times:
            raise OSError(self.errno, os.strerror(self.errno))


def parse(text: str) -> list[Fault]:
    """Return the faults that a text names; raise ValueError for any other text."""
    found = []
    for part in text.split(","):
        match = _FORM.fullmatch(part.strip())
        if match is None or match[1] not in _PLACES or not hasattr(errno, match[3]):
            raise ValueError(f"invalid fault {part!r}: must be WHAT:NTH:ERRNO[*TIMES]")
        number = getattr(errno, match[3])
        found.append(Fault(match[1], int(match[2]), number, int(match[4] or 1)))
    return found


def install(text: str) -> Callable[[], None]:
    """Make calls fail from now on; return a function that undoes this."""
    undo = []
    for fault in parse(text):
        for owner, name in _PLACES[fault.what]:
            real = getattr(owner, name)
            setattr(owner, name, _failing(fault, real))
            undo.append((owner, name, real))

    def restore() -> None:
        for owner, name, real in reversed(undo):
            setattr(owner, name, real)

    return restore


def _failing(fault: Fault, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        fault.check()
        return real(*args, **options)

    return call
