"""Reaps the supervisor's children: launchers, what dead launchers left, and orphans of jobs.

A leader is the child of its launcher, which reaps it and reports its end. It becomes our child only
when its launcher dies, or if it was started before this program was executed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

from worker_core.linux import procfs
from worker_core.supervisor.launcher import rusage
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import RunningJob
from worker_core.supervisor.starts import Ended, Starts, Used
from worker_core.supervisor.sweeper import Sweeper

log = logging.getLogger(__name__)

_MOST = 200  # children that are reaped before others have their turn


class Reaper:
    """Takes note of every child that has ended."""

    def __init__(
        self,
        loop: Loop,
        starts: Starts,
        sweeper: Sweeper,
        leaders: Mapping[int, RunningJob],
        child_ended: Callable[[int, int, Used], bool],
    ) -> None:
        """`leaders` are the running jobs by the pids of their leaders.

        `child_ended` gets the pid and the wait status of a child, and what it used; it returns
        whether the child was a leader.
        """
        self._loop = loop
        self._starts = starts
        self._sweeper = sweeper
        self._leaders = leaders
        self._child_ended = child_ended
        self._dead_launchers: list[int] = []
        self._unknown: list[Ended] = []
        self._touched: set[str | None] = set()  # jobs whose orphans have ended; None: not known

    def reap(self) -> None:
        """Reap the children that have ended; the next ones in a moment, if there are many."""
        self._starts.launchers.end_stopped()
        marks = self._sweeper.orphans.marks()
        for _ in range(_MOST):
            pid = _ended_child()
            if pid is None:
                self._settle()
                return
            self._reap(pid, marks)
        if self._dead_launchers:  # what is settled is complete: no more child of theirs comes
            while (pid := _ended_child()) is not None:
                self._reap(pid, marks)
        else:
            self._loop.call_later(0.0, self.reap)
        self._settle()

    def _reap(self, pid: int, marks: Mapping[int, str]) -> None:
        launchers = self._starts.launchers
        if pid in self._leaders:  # unless a launcher has reaped that leader, and the pid was reused
            launchers.hear()
        stat = None if pid in self._leaders else procfs.stat(pid)
        executed = procfs.has_executed(pid)
        group = "" if stat is None else os.path.basename(procfs.cgroup(pid) or "")
        is_ours = pid in launchers or pid in self._leaders
        job_id = None if is_ours else self._sweeper.orphans.forget(pid, marks)
        _, status, usage = os.wait4(pid, 0)
        used = rusage(usage)
        if pid in launchers:
            log.info("launcher %d has ended: %d", pid, os.waitstatus_to_exitcode(status))
            self._dead_launchers.append(pid)
        elif not self._child_ended(pid, status, used) and not self._starts.reaped(
            pid, status, used, executed=executed
        ):
            session = stat.session if stat is not None else 0
            self._unknown.append(Ended(pid, session, group, status, used))
            self._touched.add(job_id)

    def _settle(self) -> None:
        dead, unknown, touched = self._dead_launchers, self._unknown, self._touched
        self._dead_launchers, self._unknown, self._touched = [], [], set()
        if dead:
            self._starts.bury(dead, unknown)
        if None in touched:
            self._sweeper.sweep_all()
        else:
            self._sweeper.sweep_some(touched)


def _ended_child() -> int | None:
    """Return a child that has ended and is not reaped, None if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
