"""Whom the kernel ends when memory is short: a job, and not the supervisor (oom_score_adj).

With the supervisor the ends of all jobs would be lost. Where it is permitted (CAP_SYS_RESOURCE) it
takes the lowest score. That is inherited, so whatever starts jobs goes back to the score before; as
it still has the capability then, no job can lower its own score again.
"""

from __future__ import annotations

import logging
import os

from worker_core.supervisor import fsuid

log = logging.getLogger(__name__)

_PATH = "/proc/self/oom_score_adj"
_LOWEST = -1000
_PASSED_ON = "WORKER_OOM_SCORE"  # the variable with the score of jobs, from before exec to after it

_of_jobs: int | None = None
"""The score of jobs, if this process has another one."""


def protect() -> None:
    """Take the lowest score, if that is permitted."""
    global _of_jobs  # noqa: PLW0603  # it belongs to the process, as the score does
    passed_on = os.environ.pop(_PASSED_ON, None)
    try:
        usual = _read() if passed_on is None else int(passed_on)
        _write(_LOWEST)
    except OSError as error:
        log.info("memory: the supervisor can be ended as its jobs can: %s", error)
    else:
        _of_jobs = usual


def expose() -> None:
    """Go back to the score of jobs, in a process that starts them."""
    if _of_jobs is not None:
        _write(_of_jobs)


def pass_on() -> None:
    """Have the next program of this process know the score of jobs."""
    if _of_jobs is not None:
        os.environ[_PASSED_ON] = str(_of_jobs)


def _read() -> int:
    with fsuid.own(), open(_PATH) as file:
        return int(file.read())


def _write(score: int) -> None:
    with fsuid.own(), open(_PATH, "wb", buffering=0) as file:  # without a buffer: errors come here
        file.write(b"%d" % score)
