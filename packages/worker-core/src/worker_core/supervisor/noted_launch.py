"""A launch that also notes the leader for later supervisors.

The launcher writes the note, because its supervisor may be killed before it gets the report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker_core.supervisor import launch
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.keeper import Keeper
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.start_log import StartLog


class NotedLaunch:
    """Launches jobs, in a launcher."""

    def __init__(
        self,
        run_dir: RunDir,
        groups: Cgroups | None,
        start_log: StartLog,
        keeper: Keeper | None,
        now: Callable[[], float],
        *,
        root_jobs: bool,
    ) -> None:
        """`now` returns the time for stamps."""
        self._run_dir = run_dir
        self._groups = groups
        self._start_log = start_log
        self._keeper = keeper
        self._now = now
        self._root_jobs = root_jobs

    def __call__(
        self,
        job_id: str,
        spec: dict[str, Any],
        before_fork: launch.BeforeFork,
        forked: launch.Forked,
    ) -> launch.Launched:
        """Launch a job; raise what `launch.launch` raises."""
        pids: list[int] = []

        def note_forking(enforced: dict[str, str | None]) -> None:
            # The note comes first. A supervisor that finds no such note starts the job again; then
            # `before_fork` ends this launcher, because its own supervisor is gone.
            self._start_log.forking(job_id)
            before_fork(enforced)

        def note_forked(pid: int) -> None:
            pids.append(pid)
            self._note(job_id, pid)
            forked(pid)

        launched = launch.launch(
            self._run_dir.job(job_id),
            spec,
            self._groups,
            note_forking,
            note_forked,
            root_jobs=self._root_jobs,
        )
        if not pids:
            self._note(job_id, launched.pid)
        return launched

    def _note(self, job_id: str, pid: int) -> None:
        """Note which process the leader is, and have others keep its pidfd."""
        self._start_log.note(job_id, pid)
        if self._keeper is not None:
            self._keeper.put(job_id, pid, self._now())

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that a launcher needs for this; -1 stands for none."""
        bag = -1 if self._keeper is None else self._keeper.bag.writing()
        return self._start_log.fileno(), self._run_dir.fileno(), bag
