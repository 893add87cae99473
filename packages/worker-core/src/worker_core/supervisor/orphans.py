"""The orphans of jobs: children of the supervisor that it did not fork itself.

A running job may have thousands of orphans, and the supervisor would have to look at all of them at
the end of each job. So it remembers the job of each orphan, and looks it up again only at the end
of that job. The process may have dropped its mark meanwhile, but it still has its pid.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from worker_core.linux import procfs
from worker_core.linux.procfs import Stat
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.running_job import RunningJob


class Orphans:
    """All orphans of all running jobs."""

    def __init__(
        self,
        jobs: Mapping[str, RunningJob],
        groups: Cgroups | None,
        is_known: Callable[[int], bool],
    ) -> None:
        """`jobs` are the running jobs; `is_known` returns whether a child is not an orphan."""
        self._jobs, self._groups, self._is_known = jobs, groups, is_known
        self._job_of: dict[int, str] = {}

    def beside(self, job_id: str) -> Iterator[tuple[Stat, str | None]]:
        """Yield each orphan with the id of its running job, None if it belongs to none.

        Orphans that are known to belong to another job than `job_id` are left out.
        """
        marks: dict[int, str] | None = None
        for pid in procfs.children(os.getpid()):
            known_job = self._job_of.get(pid, job_id)
            if (known_job != job_id and known_job in self._jobs) or self._is_known(pid):
                continue
            if marks is None:
                marks = self.marks()
            stat = procfs.stat(pid)
            if stat is not None:
                yield stat, self._look_up(pid, marks)

    def marks(self) -> dict[int, str]:
        """Return the id of each running job by the job's mark."""
        return {each.mark: each.id for each in self._jobs.values()}

    def forget(self, pid: int, marks: Mapping[int, str]) -> str | None:
        """Return the job of an orphan that is about to be reaped, and forget the orphan."""
        known_job = self._job_of.get(pid)
        job_id = known_job if known_job in self._jobs else self._look_up(pid, marks)
        self._job_of.pop(pid, None)
        return job_id

    def _look_up(self, pid: int, marks: Mapping[int, str]) -> str | None:
        job_id = marks.get(procfs.realtime_limit(pid) or 0)
        if job_id is None and self._groups is not None:
            group = os.path.basename(procfs.cgroup(pid) or "")
            job_id = group if group in self._jobs else None
        self._job_of.pop(pid, None)
        if job_id is not None:
            self._job_of[pid] = job_id
        return job_id
