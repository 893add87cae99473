"""`workerd recover`: rebuild the records of jobs, and print a report."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import worker_core

from worker_daemon import errors

_SHOWN = 10  # ids on the screen


def recover(state_dir: Path) -> int:
    """Rebuild the records; return the exit code 0. Raises DaemonError."""
    try:
        rebuild = worker_core.rebuild_records  # import it now: the other account may not be able to
        _act_as_owner(state_dir)
        report = rebuild(state_dir)
    except worker_core.WorkerError as error:
        raise errors.DaemonError(str(error)) from None
    except OSError as error:
        raise errors.DaemonError(f"cannot recover {state_dir}: {error.strerror or error}") from None
    sys.stdout.write("".join(f"{line}\n" for line in _lines(report)))
    return 0


def _act_as_owner(state_dir: Path) -> None:
    """Change to the account of the service, which must own the new files."""
    owner = state_dir.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([owner.st_gid])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def _lines(report: worker_core.Rebuilt) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items()))
    lines = [f"jobs with a record: {sum(report.states.values())}{f' ({states})' if states else ''}"]
    lines.append(f"began with: {report.base or 'nothing; no database or copy could be read'}")
    lines.append(f"records made from directories alone: {report.made}")
    if report.unowned:
        lines.append(
            f"owner, name and labels unknown, of release 0.1.0: {_some(report.unowned)}; "
            f"an administrator finds them with the owner {worker_core.UNKNOWN_OWNER}"
        )
    if report.dropped:
        lines.append(f"no record any more, since they were removed: {_some(report.dropped)}")
    if report.aside:
        lines.append(f"moved aside, since they are not of a job: {_some(report.aside)}")
    if report.replaced:
        lines.append(f"the database that was there: {report.replaced}")
    lines.append("start workerd: it asks the supervisor about the jobs that were started")
    return lines


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
