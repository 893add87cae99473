"""Exit codes of the `worker` command."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from worker_cli import errors

if TYPE_CHECKING:
    from worker_cli.job import JobStatus

DONE = 0
REFUSED = 1
USAGE = 2
TIMED_OUT = 124
NOT_FOUND = 127
NO_ANSWER = 125
BY_SIGNAL = 128
INTERRUPTED = BY_SIGNAL + signal.SIGINT
BROKEN_PIPE = BY_SIGNAL + signal.SIGPIPE

_ERRORS = (
    (errors.UsageError, USAGE),
    (errors.SettingsError, USAGE),
    (errors.Unreachable, NO_ANSWER),
    (errors.NotLoggedIn, NO_ANSWER),
)


def of_error(error: errors.ClientError) -> int:
    """Return the exit code for an error."""
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), REFUSED)


def of_job(job: JobStatus) -> int:
    """Return the exit code for the end of a job, as a shell would.

    It is 0 only for a completed job. A job that exited with 0 after it was killed has the code of
    SIGTERM, and a lost job the code for no answer.
    """
    if job.status == "timed_out":
        return TIMED_OUT
    if job.status == "completed":
        return DONE
    if job.status == "skipped":
        return REFUSED
    if job.signal is not None:
        return BY_SIGNAL + job.signal
    if job.exit_code:
        return job.exit_code
    return BY_SIGNAL + signal.SIGTERM if job.status == "killed" else NO_ANSWER
