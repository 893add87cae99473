"""What a service and systemd tell each other: readiness, the watchdog, sockets opened for it.

The protocols are those of sd_notify(3) and sd_listen_fds(3); without systemd nothing here does
anything.
"""

from __future__ import annotations

import os
import socket
import time

_FIRST = 3  # SD_LISTEN_FDS_START


def notify(*lines: str) -> None:
    """Tell systemd something, such as ``READY=1``; a manager that does not listen is no error."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto("\n".join(lines).encode(), path)
        except OSError:
            return


def notify_reloading() -> None:
    """Say that a reload has begun; ``READY=1`` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval() -> float | None:
    """Return how often in seconds to send ``WATCHDOG=1``; None when nobody waits for it."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or not _for_this_process("WATCHDOG_PID", unset=True):
        return None
    return int(microseconds) / 1e6 / 2


def sockets() -> list[socket.socket]:
    """Return the listening sockets that systemd opened for this process; none is the usual case.

    The variables that announce them are removed, so that no child takes them for its own.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    mine = _for_this_process("LISTEN_PID", unset=False)
    os.environ.pop("LISTEN_PID", None)
    os.environ.pop("LISTEN_FDNAMES", None)
    if not mine or not count.isdigit():
        return []
    found = [socket.socket(fileno=_FIRST + n) for n in range(int(count))]
    for sock in found:
        sock.set_inheritable(False)
    return found


def _for_this_process(variable: str, *, unset: bool) -> bool:
    pid = os.environ.get(variable)
    return unset if pid is None else pid == str(os.getpid())
