"""Named points at which a test can crash a process.

A point does nothing unless the environment variable WORKER_CRASH_AT names it, as POINT or POINT:N.
Then the process kills itself with SIGKILL at the first or the Nth visit. Jobs never get the
variable, because their environment is not inherited.
"""

from __future__ import annotations

import itertools
import os
import signal

POINTS = (
    "engine.before_commit",
    "engine.after_commit",
    "engine.after_start_sent",
    "engine.after_kill_sent",
    "engine.exit_received",
    "engine.exit_committed",
    "supervisor.start_received",
    "supervisor.claimed",
    "supervisor.given",
    "launcher.taken",
    "launcher.forked",
    "launcher.reaped",
    "supervisor.begun",
    "supervisor.pid_written",
    "supervisor.kill_written",
    "supervisor.kill_sent",
    "supervisor.reaped",
    "supervisor.exit_written",
)

_armed, _, _nth = os.environ.get("WORKER_CRASH_AT", "").partition(":")
_visits = itertools.count(1)


def point(name: str) -> None:
    """Kill this process here if a test armed this point."""
    if name == _armed and next(_visits) == int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def disarm() -> None:
    """Disable all points in this process."""
    global _armed  # noqa: PLW0603  # it belongs to the process
    _armed = ""
