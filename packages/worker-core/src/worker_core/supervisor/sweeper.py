"""Ends the processes that a leader has left in its tree, before the end of the job is recorded.

After a kill or a timeout, these processes first have the rest of the grace. After any other end
they are killed at once: a job leaves no process running.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable, Mapping

from worker_core.supervisor import tree
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.orphans import Orphans
from worker_core.supervisor.running_job import RunningJob

log = logging.getLogger(__name__)

_AGAIN = 0.02  # seconds between two rounds of SIGKILL
_LOOK = 0.05  # seconds between two checks whether a tree has ended within its grace
_LOOK_FOREIGN = 0.5  # the same for a tree of processes that are not our children: /proc is walked
_PATIENCE = 10.0  # seconds after which a job no longer waits for a process that survives SIGKILL
_GRACE_PATIENCE = 10.0  # seconds for which an upgrade waits for trees in their grace


class Sweeper:
    """The jobs whose leader has ended and whose tree may not be empty."""

    def __init__(
        self,
        loop: Loop,
        groups: Cgroups | None,
        jobs: Mapping[str, RunningJob],
        is_known: Callable[[int], bool],
        on_swept: Callable[[RunningJob], None],
    ) -> None:
        """`jobs` are all running jobs, `is_known` returns whether a child is not an orphan.

        `on_swept` is called when nothing of a job is left.
        """
        self._loop = loop
        self._groups = groups
        self._jobs = jobs
        self._on_swept = on_swept
        self._sweeping: dict[str, RunningJob] = {}
        self.orphans = Orphans(jobs, groups, is_known)

    def add(self, job: RunningJob, grace_until: float) -> None:
        """Sweep up after a leader that has ended, now or when the grace is over."""
        job.grace_until = grace_until
        job.give_up = max(self._loop.clock.monotonic(), grace_until) + _PATIENCE
        self._sweeping[job.id] = job
        self._loop.attempt(lambda: self.sweep(job))

    def hasten(self, job: RunningJob) -> None:
        """Take note that the grace of a job was shortened."""
        job.give_up = job.grace_until + _PATIENCE
        self.sweep(job)

    def sweep_all(self) -> None:
        """Look at all jobs: a child of ours has ended, and its job is not known."""
        for job in list(self._sweeping.values()):
            self.sweep(job)

    def sweep_some(self, job_ids: Iterable[str | None]) -> None:
        """Look at the jobs of which a child of ours has ended."""
        for job_id in job_ids:
            job = self._sweeping.get(job_id or "")
            if job is not None:
                self.sweep(job)

    def waits_for_grace(self, seconds: float) -> bool:
        """Return whether a tree is in its grace, so that this program must not be replaced yet.

        If the caller has waited for `seconds` and that is too long, the graces are ended.
        """
        waiting = [each for each in self._sweeping.values() if each.grace_until]
        if seconds <= _GRACE_PATIENCE:
            return bool(waiting)
        for each in waiting:
            each.grace_until = 0.0
            self.sweep(each)
        return False

    def strays(self) -> list[int]:
        """Return the unknown children that, by mark and group, belong to no running job."""
        return [stat.pid for stat, job_id in self.orphans.beside("") if job_id is None]

    def sweep(self, job: RunningJob) -> None:
        """Kill the rest of a tree, unless it is in its grace; report when no process is left."""
        if self._is_in_grace(job):
            return
        if self._kill_rest(job):
            now = self._loop.clock.monotonic()
            if now < job.give_up:
                # There is one timer for each job, although the end of each child is a reason to
                # sweep as well.
                if job.sweep_timer is None or job.sweep_timer.due <= now:
                    job.sweep_timer = self._loop.call_at(now + _AGAIN, lambda: self.sweep(job))
                return
            log.error("job %s: some of its processes do not end by SIGKILL", job.id)
        if self._sweeping.pop(job.id, None) is not None:
            self._on_swept(job)

    def _is_in_grace(self, job: RunningJob) -> bool:
        """Return whether processes are left that got our signal and may still end by themselves."""
        now = self._loop.clock.monotonic()
        if now >= job.grace_until or not self._lives(job):
            job.grace_until = 0.0
            return False
        # The processes that are left are our children by now. The end of a child leads here, too.
        due = min(now + (_LOOK_FOREIGN if job.foreign else _LOOK), job.grace_until)
        if job.sweep_timer is not None:
            job.sweep_timer.cancel()
        job.sweep_timer = self._loop.call_at(due, lambda: self.sweep(job))
        return True

    def _lives(self, job: RunningJob) -> bool:
        """Return whether a process is left of a job whose leader has ended."""
        if self._groups is not None and not self._groups.emptied(job.id):
            return True
        if job.foreign:
            return bool(tree.members(job.id))
        return any(job_id == job.id for _, job_id in self.orphans.beside(job.id))

    def _kill_rest(self, job: RunningJob) -> bool:
        """Send SIGKILL to all processes that are left of a job; return whether there were any."""
        if job.id not in self._sweeping or (job.pid is None and not job.foreign):
            return False
        grouped = self._groups is not None and not self._groups.emptied(job.id)
        if grouped and self._groups is not None:
            self._groups.kill(job.id)
        orphans = [each for each in self.orphans.beside(job.id) if each[0].state not in "ZX"]
        left = [stat for stat, job_id in orphans if job_id is None and self._owners_are_known()]
        if job.foreign or any(job_id == job.id for _, job_id in orphans):
            left += tree.members(job.id)
        tree.send_all(left, signal.SIGKILL)
        return grouped or bool(left)

    def _owners_are_known(self) -> bool:
        """Return whether an orphan that no running job owns is certainly a stranger.

        It then has dropped its mark, or its job has ended. Where jobs have no marks, the owner of
        an orphan is not known as long as more than one job runs.
        """
        if self._groups is not None or len(self._jobs) == len(self._sweeping):
            return True
        return all(tree.can_mark(each) for each in self._jobs)
