"""The interface between an engine and what runs its jobs: the Executor protocol, and the registry.

An executor starts each job id at most once, however often `start` is called. It reports to a
`Listener`, from its own thread, in the order in which things happened. Other distributions add
executors as entry points in the group `worker_core.executors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from worker_core.disk.jobdir import Exit
from worker_core.model.errors import FieldError
from worker_core.model.kill import KillRequest
from worker_core.model.spec import JobSpec


class Listener(Protocol):
    """What an executor reports to."""

    def started(self, job_id: str, pid: int, at: float, enforced: Mapping[str, str | None]) -> None:
        """Take note that the job's process runs since `at` (Unix seconds); `enforced` is as in Job.

        For a short job the executor may call only `exited`, which has the same information.
        """

    def exited(self, job_id: str, end: Exit) -> None:
        """Take note that the job has ended; the end is recorded in the job's directory."""

    def unrecorded(self, job_id: str, why: str) -> None:
        """Take note that the process has ended, but cannot be recorded yet; `exited` follows."""

    def caught_up(self) -> None:
        """Record everything that was reported since the last call, together."""

    def known(self, jobs: dict[str, dict[str, Any]]) -> None:
        """Take the answer to `query`: id to `{"running": …}`, `{"exit": …}`, or {} (never started).

        Beside `running`, a true `stopping` says that a kill has arrived, and `unrecorded` says why
        the end of the job's process cannot be recorded yet.
        """

    def connected(self) -> None:
        """Take note that the executor is connected (again); earlier requests may be lost."""


class Executor(Protocol):
    """Starts, signals and kills jobs. No call waits until that is done."""

    hanging_starts: int
    """How many starts hang, as of the last call of `fault`."""

    def connect(self, listener: Listener) -> None:
        """Get ready for requests; raise ExecutorUnavailable if that is not possible."""

    def start(self, job_id: str, spec: dict[str, Any]) -> None:
        """Start a job; `started` or `exited` follows, or both."""

    def kill(self, job_id: str, request: KillRequest) -> None:
        """Kill a job: its signal now, SIGKILL after its grace; `exited` follows."""

    def signal(self, job_id: str, signum: int) -> None:
        """Send a signal to a job's process tree, at most once.

        Raises ExecutorUnavailable if it is not certain that the signal was sent.
        """

    def query(self, job_ids: Iterable[str]) -> None:
        """Ask about jobs; `known` follows, in order with all other reports."""

    def unenforceable(self, spec: JobSpec) -> Iterable[FieldError]:
        """Return the parts of a spec that cannot be enforced here, each with its cure."""

    def fault(self) -> str | None:
        """Return why the executor does not answer, None if it does."""

    def close(self, *, end_jobs: bool) -> None:
        """Disconnect; with `end_jobs`, kill all jobs first and wait for that."""


def find(name: str) -> Callable[..., Executor]:
    """Return the factory of the executor with this name; raise LookupError listing all names."""
    from importlib import metadata  # slow to import, and rarely needed

    known = metadata.entry_points(group="worker_core.executors")
    try:
        factory: Callable[..., Executor] = known[name].load()
    except KeyError:
        names = ", ".join(sorted(known.names)) or "none"
        raise LookupError(f"no executor named {name!r}; installed are: {names}") from None
    return factory
