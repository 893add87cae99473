"""When memory is short, the kernel should kill a job and not the supervisor (oom_score_adj).

Without the supervisor the ends of all jobs could be lost. Where it is permitted (CAP_SYS_RESOURCE)
the supervisor takes the lowest score. Children inherit the score, so launchers go back to the
previous one. They do so with the capability, so that no job can lower its own score afterwards.
"""

from __future__ import annotations

import logging
import os

from worker_core.supervisor import fsuid

log = logging.getLogger(__name__)

_PATH = "/proc/self/oom_score_adj"
_LOWEST = -1000
_PASSED_ON = "WORKER_OOM_SCORE"  # the variable that keeps the score of jobs over an exec

_of_jobs: int | None = None
"""The score of jobs; None if this process has the same score."""


def protect() -> None:
    """Take the lowest score, if that is permitted."""
    global _of_jobs  # noqa: PLW0603  # it belongs to the process, as the score does
    passed_on = os.environ.pop(_PASSED_ON, None)
    try:
        usual = _read() if passed_on is None else int(passed_on)
        _write(_LOWEST)
    except OSError as error:
        log.info("memory: the kernel may end the supervisor like its jobs: %s", error)
    else:
        _of_jobs = usual


def expose() -> None:
    """Go back to the score of jobs, in a launcher."""
    if _of_jobs is not None:
        _write(_of_jobs)


def pass_on() -> None:
    """Tell the next program of this process the score of jobs."""
    if _of_jobs is not None:
        os.environ[_PASSED_ON] = str(_of_jobs)


def _read() -> int:
    with fsuid.own(), open(_PATH) as file:
        return int(file.read())


def _write(score: int) -> None:
    with fsuid.own(), open(_PATH, "wb", buffering=0) as file:  # without a buffer: errors come here
        file.write(b"%d" % score)
