"""Signals to the tree of a job, with and without the intent to end it."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import cast

from worker_core import failpoints
from worker_core.disk.jobdir import Cause, Kill, Pid
from worker_core.linux import procfs
from worker_core.supervisor import namespaces, tree
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import RunningJob, logged

_AGAIN = 0.02  # seconds between two rounds of SIGKILL to a tree that still lives


class Killer:
    """Ends jobs whose leader runs; what follows once it has ended is the table's affair."""

    def __init__(self, loop: Loop, groups: Cgroups | None) -> None:
        self._loop = loop
        self._groups = groups

    def signal(self, job: RunningJob, signum: int) -> None:
        """Send a signal to the tree."""
        for each in self._targets(job, signum):
            tree.send(each, signum)

    def kill(
        self, job: RunningJob, cause: Cause, reason: str | None, signum: int, *, grace: float
    ) -> None:
        """Send a signal to the tree, and SIGKILL after `grace` seconds, or sooner if that was due.

        Does nothing if the leader has ended or is on its way out: then it ended by itself.
        """
        due = self._loop.clock.monotonic() + grace
        # Looked for first: between the look at the leader and the signal there is to be no walk.
        targets = self._targets(job, signum)
        before = job.kill
        target = self._intend(job, cause, reason, signum, grace)
        if target is None:
            return
        if signum == signal.SIGKILL:
            self._kill_hard(job)
        else:
            if job.pid_namespace:
                self._send_passing_on(job, namespaces.GRACE)
            reached = tree.send_all(targets, signum)
            if target not in reached and self._whose_end(job) is None:
                # It has ended by itself while the intent was being recorded.
                job.kill = before
                return
            self._look_again(job, signum)
            if job.kill_timer is None or due < job.kill_timer.due:
                self._arm(job, due)
        failpoints.point("supervisor.kill_sent")

    def resume(self, job: RunningJob) -> None:
        """Go on with a kill that another supervisor began."""
        if job.kill is not None:
            self._arm(job, max(self.due(job.kill), self._loop.clock.monotonic()))

    def due(self, kill: Kill) -> float:
        """Return when SIGKILL is due (monotonic time)."""
        if kill.kill_at_boottime is not None:
            return kill.kill_at_boottime
        return self._loop.clock.monotonic() + kill.kill_at - self._loop.clock.now()

    def grace_until(self, job: RunningJob) -> float:
        """Return until when the tree of a leader that has ended is left alone (monotonic time).

        After a kill that is its grace; otherwise 0, as whatever a leader leaves behind is killed.
        """
        kill = job.kill
        if kill is None or signal.SIGKILL in kill.signalled:
            return 0.0
        return self.due(kill)

    def hasten(self, job: RunningJob, signum: int, *, grace: float) -> None:
        """Kill what is left of a job whose leader has ended once more, with less grace."""
        if signum == signal.SIGKILL:
            grace = 0.0
        else:
            tree.send_all(tree.members(job.id), signum)
        due = self._loop.clock.monotonic() + grace
        job.grace_until = min(job.grace_until, due)
        if job.kill is not None:  # an engine that connects now is not to ask for the same
            kill_at = self._loop.clock.now() + grace
            job.kill = _hastened(job.kill, signum, kill_at, due)

    def _arm(self, job: RunningJob, due: float) -> None:
        if job.kill_timer is not None:
            job.kill_timer.cancel()
        job.kill_timer = self._loop.call_at(due, lambda: self._kill_hard(job))

    def _intend(
        self, job: RunningJob, cause: Cause, reason: str | None, signum: int, grace: float
    ) -> int | None:
        """Record the intent before the first signal; return whose end is wanted, None if the leader
        is already ending."""
        target = self._whose_end(job)
        if target is None:
            return None
        kill_at = self._loop.clock.now() + grace
        due = self._loop.clock.monotonic() + grace
        counts = procfs.survives(target, signum)
        before = job.kill
        if before is None:
            job.kill = Kill(cause, reason, [signum], counts, kill_at, due)
        else:
            hastened = _hastened(before, signum, kill_at, due)
            job.kill = replace(hastened, counts=before.counts or counts)
        with logged(job, "cannot record the kill"):
            job.dir.write_kill(job.kill)
        failpoints.point("supervisor.kill_written")
        return target

    def _look_again(self, job: RunningJob, signum: int) -> None:
        """See whether it handles the signal since a moment ago, and so has outlived it.

        It is certain by now: what does not handle a signal when it is sent is ended by it.
        """
        kill = cast("Kill", job.kill)
        target = None if kill.counts else self._whose_end(job)
        if target is not None and procfs.survives(target, signum):
            job.kill = replace(kill, counts=True)
            with logged(job, "cannot record the kill"):
                job.dir.write_kill(job.kill)

    def _whose_end(self, job: RunningJob) -> int | None:
        """Return the process whose end is the job's, None if it has ended or is ending.

        That is the leader, or the program in its box. Of a box that only has to pass its end on,
        the two that do so are continued: somebody may have stopped them.
        """
        leader = cast("int", job.leader)
        target = tree.program(leader) if job.pid_namespace else leader
        stat = None if target is None else procfs.stat(target)
        if stat is not None and not stat.ended and not self._is_another(job, stat):
            return target
        if job.pid_namespace:
            self._send_passing_on(job, signal.SIGCONT)
        return None

    def _passing_on(self, job: RunningJob) -> list[int]:
        leader = cast("int", job.leader)
        return [leader, *procfs.children(leader)]

    def _send_passing_on(self, job: RunningJob, signum: int) -> None:
        for each in map(procfs.stat, self._passing_on(job)):
            if each is not None:
                tree.send(each, signum)

    def _is_another(self, job: RunningJob, stat: procfs.Stat) -> bool:
        """Whether the leader's pid names another process by now: its launcher has reaped it."""
        recorded = cast("Pid", job.pid)
        return stat.pid == recorded.pid and recorded.start_time not in (0, stat.start_time)

    def _kill_hard(self, job: RunningJob) -> None:
        """SIGKILL to the tree, again until the leader is gone; then the sweep takes over."""
        if job.leader is None or job.kill is None:
            return
        if signal.SIGKILL not in job.kill.signalled:
            if self._whose_end(job) is None:
                return
            sent = [*job.kill.signalled, int(signal.SIGKILL)]
            job.kill = replace(job.kill, signalled=sent)
            with logged(job, "cannot record the kill"):
                job.dir.write_kill(job.kill)
        if self._grouped(job) is None:
            tree.send_all(self._walked(job), signal.SIGKILL)
        if self._groups is not None:
            self._groups.kill(job.id)
        self._arm(job, self._loop.clock.monotonic() + _AGAIN)

    def _targets(self, job: RunningJob, signum: int) -> list[procfs.Stat]:
        """Return who gets a signal, the leader first: it must not have ended when it is sent."""
        leader = cast("int", job.leader)
        members = self._grouped(job)
        if members is None:
            members = self._walked(job)
        if job.pid_namespace and signum != signal.SIGKILL:
            # The leader and the init of a box only pass on its end; they must never be stopped.
            passing_on = set(self._passing_on(job))
            members = [each for each in members if each.pid not in passing_on]
        return sorted(members, key=lambda each: each.pid != leader)

    def _grouped(self, job: RunningJob) -> list[procfs.Stat] | None:
        """Return the living processes of the job's control group; None if there is no such group,
        or its leader lives outside of it: then /proc has to be walked, which takes the longer the
        more processes the machine has."""
        pids = None if self._groups is None else self._groups.members(job.id)
        if pids is None:
            return None
        if job.leader not in pids and self._leader(job) is not None:
            return None
        found = (procfs.stat(pid) for pid in pids)
        return [each for each in found if each is not None and each.state not in "ZX"]

    def _walked(self, job: RunningJob) -> list[procfs.Stat]:
        return tree.members(job.id, self._leader(job))

    def _leader(self, job: RunningJob) -> int | None:
        """Return the pid of a leader that lives."""
        stat = procfs.stat(cast("int", job.leader))
        if stat is None or stat.state in "ZX" or self._is_another(job, stat):
            return None
        return stat.pid


def _hastened(kill: Kill, signum: int, kill_at: float, due: float) -> Kill:
    """Return a kill after one more signal, with SIGKILL due at the earlier of both times."""
    return replace(
        kill,
        signalled=[*(n for n in kill.signalled if n != signum), signum],
        kill_at=min(kill.kill_at, kill_at),
        kill_at_boottime=min(kill.kill_at_boottime or due, due),
    )
