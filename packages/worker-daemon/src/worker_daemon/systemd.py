"""The interface to systemd: readiness, the watchdog, and sockets that systemd has opened.

The protocols are sd_notify(3) and sd_listen_fds(3). Without systemd, these functions do nothing.
"""

from __future__ import annotations

import os
import socket
import time

import worker_core

from worker_daemon import errors


def notify(*lines: str) -> None:
    """Send lines such as ``READY=1`` to systemd. It is not an error if nobody receives them."""
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
    """Notify systemd that a reload has begun; ``READY=1`` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval() -> float | None:
    """Return the seconds between two ``WATCHDOG=1``; None if the unit has no watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdecimal()) or not _for_this_process(
        "WATCHDOG_PID"
    ):
        return None
    return int(microseconds) / 1e6 / 2


def sockets(passed: list[tuple[str, int]]) -> list[socket.socket]:
    """Return the listening sockets that systemd has opened for this process; usually none.

    `passed` has the name and number of each passed descriptor: see DescriptorStore. Raises
    ListenError for one that does not listen for TCP connections.
    """
    stored = worker_core.DescriptorStore.owns
    return [_listening(number) for name, number in passed if not stored(name)]


def _listening(number: int) -> socket.socket:
    why = "it does not listen for TCP connections"
    try:
        found = socket.socket(fileno=number)
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            return found
        found.detach()
    except OSError as error:
        why = str(error.strerror)
    raise errors.ListenError(
        f"cannot use descriptor {number}, which LISTEN_FDS names: {why}; it comes from "
        "ListenStream= of a socket unit, or unset LISTEN_FDS"
    )


def _for_this_process(variable: str) -> bool:
    pid = os.environ.get(variable)
    return pid is None or pid == str(os.getpid())
