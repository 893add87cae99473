"""What jobs have left behind: the supervisor's children that it has not started itself.

A job that runs may have thousands of them, and each end of a job is a reason to look at all. So it
is remembered whose each is. It is asked again only at the end of that job: the process may have
dropped its mark since, but no process changes its pid.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from worker_core.linux import procfs
from worker_core.linux.procfs import Stat
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.running_job import RunningJob


class Orphans:
    """All of them."""

    def __init__(
        self,
        jobs: Mapping[str, RunningJob],
        groups: Cgroups | None,
        known: Callable[[int], bool],
    ) -> None:
        """`jobs` are those that run; `known` says of a child that it is no orphan."""
        self._jobs, self._groups, self._known = jobs, groups, known
        self._whose: dict[int, str] = {}

    def beside(self, job_id: str) -> Iterator[tuple[Stat, str | None]]:
        """Yield each orphan, with the id of the running job that it is of, None if it is nobody's;
        without those that are known to be of another job than this."""
        marks: dict[int, str] | None = None
        for pid in procfs.children(os.getpid()):
            whose = self._whose.get(pid, job_id)
            if (whose != job_id and whose in self._jobs) or self._known(pid):
                continue
            if marks is None:
                marks = {each.mark: each.id for each in self._jobs.values()}
            stat = procfs.stat(pid)
            if stat is not None:
                yield stat, self._look(pid, marks)

    def forget(self, pid: int) -> None:
        """Take note that a child was reaped."""
        self._whose.pop(pid, None)

    def _look(self, pid: int, marks: Mapping[int, str]) -> str | None:
        whose = marks.get(procfs.realtime_limit(pid) or 0)
        if whose is None and self._groups is not None:
            group = os.path.basename(procfs.cgroup(pid) or "")
            whose = group if group in self._jobs else None
        self._whose.pop(pid, None)
        if whose is not None:
            self._whose[pid] = whose
        return whose
