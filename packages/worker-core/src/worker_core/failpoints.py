"""Named points at which a process ends itself, so that tests can visit every instant that matters.

A point does nothing unless the environment variable WORKER_CRASH_AT names it, as POINT or POINT:N;
then the process is gone as by `kill -9`, at the first or the Nth visit. Jobs never see the
variable: their environment is built from nothing.
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
    """End this process here if a test armed this point."""
    if name == _armed and next(_visits) == int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def disarm() -> None:
    """Let no point end this process any more."""
    global _armed  # noqa: PLW0603  # it belongs to the process
    _armed = ""
