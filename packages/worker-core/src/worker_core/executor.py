"""What an engine needs of whatever runs its jobs: the Executor protocol, and the registry.

An executor promises at-most-once: a job id is started once, however often `start` is asked for.
It reports through a `Listener`, from a thread of its own, in the order in which things happened.
Other distributions add executors as entry points in the group `worker_core.executors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from worker_core.disk.jobdir import Exit
from worker_core.model.errors import FieldError
from worker_core.model.kill import KillRequest
from worker_core.model.spec import JobSpec


class Listener(Protocol):
    """Who hears what becomes of jobs."""

    def started(self, job_id: str, pid: int, at: float, enforced: Mapping[str, str | None]) -> None:
        """The job's process runs since `at` (Unix seconds); `enforced` is as in Job.

        Of a short job only its end may be told, which says the same.
        """

    def exited(self, job_id: str, end: Exit) -> None:
        """The job has ended; its end is recorded in its directory."""

    def unrecorded(self, job_id: str, why: str) -> None:
        """The job's process has ended, but that cannot be recorded yet; `exited` follows."""

    def caught_up(self) -> None:
        """All that is known now was told: what was heard is recorded together."""

    def known(self, jobs: dict[str, dict[str, Any]]) -> None:
        """The answer to `query`: id to `{"running": …}`, `{"exit": …}`, or {} for never started.

        Beside `running`, a true `stopping` says that the job was asked to end and is not to be
        asked again, and `unrecorded` why the end of its process cannot be recorded yet.
        """

    def connected(self) -> None:
        """The executor is there (again); what was asked of it before may not have reached it."""


class Executor(Protocol):
    """Starts, signals and ends jobs. No call waits for what it asks for."""

    hanging_starts: int
    """How many starts hang, as of the last call of `fault`."""

    def connect(self, listener: Listener) -> None:
        """Be ready for requests; raise ExecutorUnavailable if that cannot be."""

    def start(self, job_id: str, spec: dict[str, Any]) -> None:
        """Have a job started; `started` or `exited` follows, or both."""

    def kill(self, job_id: str, request: KillRequest) -> None:
        """Have a job ended: its signal now, SIGKILL after its grace; `exited` follows."""

    def signal(self, job_id: str, signum: int) -> None:
        """Have a signal sent to a job's tree, at most once.

        Raises ExecutorUnavailable if it is not certain that the signal was sent.
        """

    def query(self, job_ids: Iterable[str]) -> None:
        """Ask what became of jobs; `known` follows, in order with everything else."""

    def unenforceable(self, spec: JobSpec) -> Iterable[FieldError]:
        """Return what of a spec cannot be enforced here, each with its cure."""

    def fault(self) -> str | None:
        """Ask whether it answers; return why it does not, None if it does."""

    def close(self, *, end_jobs: bool) -> None:
        """Let go of the executor; with `end_jobs`, end all jobs and wait for that."""


def find(name: str) -> Callable[..., Executor]:
    """Return the factory of the executor with this name; raise LookupError naming the known."""
    from importlib import metadata  # slow to import, and rarely needed

    known = metadata.entry_points(group="worker_core.executors")
    try:
        factory: Callable[..., Executor] = known[name].load()
    except KeyError:
        names = ", ".join(sorted(known.names)) or "none"
        raise LookupError(f"no executor named {name!r}; installed are: {names}") from None
    return factory
