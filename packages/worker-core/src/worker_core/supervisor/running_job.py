"""One running job, as the supervisor keeps it."""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from worker_core.disk.jobdir import STREAMS, Exit, JobDir, Kill, Pid
from worker_core.model.state import Cause
from worker_core.supervisor import tree
from worker_core.supervisor.loop import Timer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EndRequest:
    """Why a job must end, and which signal its processes get first."""

    cause: Cause
    reason: str | None
    signum: int = signal.SIGKILL
    grace: float = 0.0  # seconds until SIGKILL


@dataclass
class RunningJob:
    """A job that was claimed, and whose end has not been recorded yet."""

    dir: JobDir
    spec: dict[str, Any]
    pid: Pid | None = None  # the leader, once it has begun
    foreign: bool = False  # the leader is not our child, nor does what it leaves behind become ours
    pidfd: int | None = None  # of a foreign leader (exit_status.py)
    gone: bool = False  # a foreign leader has ended: its pid may name another process by now
    kill: Kill | None = None
    end_request: EndRequest | None = None  # asked for while the job was being started
    early_signals: list[int] = field(default_factory=list)  # to be sent when the job has begun
    forked: int | None = None  # the leader's pid from its fork on, if the launcher reports it
    end: Exit | None = None
    unrecorded: str | None = None  # why the end could not be written at the latest attempt
    began: float = 0.0  # monotonic time
    give_up: float = 0.0  # monotonic time after which no step is tried again
    grace_until: float = 0.0  # monotonic time until which the tree of an ended leader may run
    announcement: Timer | None = None
    timeout: Timer | None = None
    kill_timer: Timer | None = None
    sweep_timer: Timer | None = None
    output_size: int = 0  # bytes, at the latest look (output_cap.py)
    looks_apart: int = 1  # rounds from one look at the output to the next

    @property
    def id(self) -> str:
        """The job's id."""
        return self.dir.job_id

    @property
    def owner(self) -> str:
        """The job's owner; the account, if an engine of an earlier release does not name one."""
        return str(self.spec.get("owner") or self.spec.get("run_as") or "")

    @functools.cached_property
    def mark(self) -> int:
        """The mark that every process of the job carries (tree.py)."""
        return tree.mark(self.id)

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that have an output file of their own."""
        return tuple(STREAMS) if self.spec.get("separate_stderr") else ("stdout",)

    @property
    def pid_namespace(self) -> bool:
        """Whether the job has a pid namespace, and so two processes of ours (namespaces.py)."""
        return bool(self.spec.get("isolation", {}).get("pid_namespace"))

    @property
    def leader(self) -> int | None:
        """The leader's pid, as long as that pid certainly names the leader."""
        certain = self.pid is not None and self.end is None and not self.gone
        return cast("Pid", self.pid).pid if certain else None


@contextlib.contextmanager
def logged(job: RunningJob, what: str) -> Iterator[None]:
    """Log an OSError of this block and go on: a file that cannot be written ends no job."""
    try:
        yield
    except OSError as error:
        log.error("job %s: %s: %s", job.id, what, error)
