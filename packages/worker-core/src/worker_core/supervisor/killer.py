"""Signals to the tree of a job whose leader runs, with and without the wish to end the job.

The processes of the tree are those in the job's control group. If there is no group, or the leader
has left it, /proc is searched, which takes longer if the machine has more processes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import cast

from worker_core import failpoints
from worker_core.disk.jobdir import Kill, Pid
from worker_core.linux import procfs
from worker_core.supervisor import namespaces, tree, turns
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import EndRequest, RunningJob, logged
from worker_core.supervisor.turns import Turns

_AGAIN = 0.02  # seconds between two rounds of SIGKILL to a tree that still lives
_SLICE = 200  # processes of a tree that get a signal before others have their turn


@dataclass(frozen=True)
class _Targets:
    """The processes of a job that get a signal, in this order."""

    pids: list[int]
    look_up: Callable[[Iterable[int]], Iterable[procfs.Stat]]
    """Yields, one by one, the given processes that still belong to the job."""

    def put_first(self, pid: int) -> _Targets:
        return replace(self, pids=sorted(self.pids, key=lambda each: each != pid))

    def without(self, pids: Iterable[int]) -> _Targets:
        excluded = set(pids)
        return replace(self, pids=[each for each in self.pids if each not in excluded])


class Killer:
    """Ends jobs whose leader runs. After the leader's end, the Sweeper ends the rest."""

    def __init__(self, loop: Loop, groups: Cgroups | None, share: Turns | None = None) -> None:
        self._loop = loop
        self._groups = groups
        self._turns = share or Turns(loop)

    def signal(self, job: RunningJob, signum: int) -> None:
        """Send a signal to the tree, without the wish to end the job."""
        targets = self._targets(job, signum)
        self._send(job, targets.put_first(cast("int", job.leader)), signum, tree.send_each)

    def kill(self, job: RunningJob, request: EndRequest) -> None:
        """Send a signal to the tree, and SIGKILL when the grace is over.

        SIGKILL is sent earlier if an earlier request said so. Does nothing if the leader has ended
        or is exiting: then it ended by itself.
        """
        signum = request.signum
        due = self._loop.clock.monotonic() + request.grace
        # The tree is looked up first: nothing slow may come between the look at the leader and the
        # signal.
        targets = self._targets(job, signum)
        before = job.kill
        target = self._record_wish(job, request)
        if target is None:
            return
        if signum == signal.SIGKILL:
            self._kill_hard(job)
        else:
            if job.pid_namespace:
                self._send_to_relays(job, namespaces.GRACE)
            reached = self._send(job, targets.put_first(target), signum, tree.send_all)
            if target not in reached and self._ends_job(job) is None:
                # It ended by itself while the wish was being recorded.
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
        """Return until when the tree of an ended leader may go on (monotonic time).

        After a kill that is the kill's grace. Otherwise it is 0: what a leader leaves behind is
        killed.
        """
        kill = job.kill
        if kill is None or signal.SIGKILL in kill.signalled:
            return 0.0
        return self.due(kill)

    def hasten(self, job: RunningJob, request: EndRequest) -> None:
        """Kill again, with less grace, the rest of a job whose leader has ended."""
        signum, grace = request.signum, request.grace
        if signum == signal.SIGKILL:
            grace = 0.0
        else:
            self._send(job, _found(tree.members(job.id)), signum, tree.send_all)
        due = self._loop.clock.monotonic() + grace
        job.grace_until = min(job.grace_until, due)
        # Otherwise an engine that connects now would send the same request again.
        if job.kill is not None:
            kill_at = self._loop.clock.now() + grace
            job.kill = _hastened(job.kill, signum, kill_at, due)

    # -- the wish, and whose end it is about -------------------------------------------------------

    def _record_wish(self, job: RunningJob, request: EndRequest) -> int | None:
        """Record the kill before the first signal; return the process whose end is the job's.

        Returns None if that process is ending already.
        """
        target = self._ends_job(job)
        if target is None:
            return None
        signum = request.signum
        kill_at = self._loop.clock.now() + request.grace
        due = self._loop.clock.monotonic() + request.grace
        counts = procfs.survives(target, signum)
        before = job.kill
        if before is None:
            job.kill = Kill(request.cause, request.reason, [signum], counts, kill_at, due)
        else:
            hastened = _hastened(before, signum, kill_at, due)
            job.kill = replace(hastened, counts=before.counts or counts)
        self._write(job)
        failpoints.point("supervisor.kill_written")
        return target

    def _look_again(self, job: RunningJob, signum: int) -> None:
        """Note if the leader handles the signal by now, and so has survived it.

        It may have installed a handler since the first look. This look is certain: a process that
        does not handle the signal has ended by it.
        """
        kill = cast("Kill", job.kill)
        target = None if kill.counts else self._ends_job(job)
        if target is not None and procfs.survives(target, signum):
            job.kill = replace(kill, counts=True)
            self._write(job)

    def _write(self, job: RunningJob) -> None:
        with logged(job, "cannot record the kill"):
            job.dir.write_kill(cast("Kill", job.kill))

    def _ends_job(self, job: RunningJob) -> int | None:
        """Return the process whose end is the end of the job, None if it has ended or is ending.

        That is the leader. With a pid namespace it is the program, and the leader and the init only
        relay its end: if the program has ended they are continued, because a user may have
        stopped them.
        """
        leader = cast("int", job.leader)
        target = tree.program(leader) if job.pid_namespace else leader
        stat = None if target is None else procfs.stat(target)
        if stat is not None and not stat.ended and not self._is_another(job, stat):
            return target
        if job.pid_namespace:
            self._send_to_relays(job, signal.SIGCONT)
        return None

    def _relays(self, job: RunningJob) -> list[int]:
        leader = cast("int", job.leader)
        return [leader, *procfs.children(leader)]

    def _send_to_relays(self, job: RunningJob, signum: int) -> None:
        for each in map(procfs.stat, self._relays(job)):
            if each is not None:
                tree.send(each, signum)

    def _is_another(self, job: RunningJob, stat: procfs.Stat) -> bool:
        """Return whether the leader's pid names another process: its launcher has reaped it."""
        recorded = cast("Pid", job.pid)
        return stat.pid == recorded.pid and recorded.start_time not in (0, stat.start_time)

    # -- SIGKILL -----------------------------------------------------------------------------------

    def _arm(self, job: RunningJob, due: float) -> None:
        if job.kill_timer is not None:
            job.kill_timer.cancel()

        def kill() -> None:
            self._turns.kill(job.owner, (job.id, "hard"), lambda: self._kill_hard(job), due=due)

        job.kill_timer = self._loop.call_at(due, kill)

    def _kill_hard(self, job: RunningJob) -> None:
        """Send SIGKILL to the tree, and again until the leader has ended."""
        if job.leader is None or job.kill is None:
            return
        if signal.SIGKILL not in job.kill.signalled:
            if self._ends_job(job) is None:
                return
            sent = [*job.kill.signalled, int(signal.SIGKILL)]
            job.kill = replace(job.kill, signalled=sent)
            self._write(job)
        if self._grouped(job) is None:
            tree.send_all(self._walked(job), signal.SIGKILL)
        if self._groups is not None:
            self._groups.kill(job.id)
        self._arm(job, self._loop.clock.monotonic() + _AGAIN)

    # -- the targets of a signal -------------------------------------------------------------------

    def _send(
        self,
        job: RunningJob,
        targets: _Targets,
        signum: int,
        send: Callable[[Iterable[procfs.Stat], int], set[int]],
    ) -> set[int]:
        """Send a signal to the first targets now, and to the others in the owner's next turns.

        Returns those of the first ones that got it.
        """
        now, later = targets.pids[:_SLICE], targets.pids[_SLICE:]
        reached = send(targets.look_up(now), signum)
        if later:
            rest = replace(targets, pids=later)
            self._turns.go_on(
                job.owner, lambda: self._send(job, rest, signum, send), rest=turns.ONCE
            )
        return reached

    def _targets(self, job: RunningJob, signum: int) -> _Targets:
        pids = self._grouped(job)
        if pids is None:
            targets = _found(self._walked(job))
        else:
            targets = _Targets(pids, lambda some: self._still_grouped(job, some))
        if job.pid_namespace and signum != signal.SIGKILL:  # the relays must never be stopped
            targets = targets.without(self._relays(job))
        return targets

    def _grouped(self, job: RunningJob) -> list[int] | None:
        """Return the processes of the job's control group; None if /proc has to be walked."""
        pids = None if self._groups is None else self._groups.members(job.id)
        if pids is None or (job.leader not in pids and self._living_leader(job) is not None):
            return None
        return pids

    def _still_grouped(self, job: RunningJob, pids: Iterable[int]) -> Iterator[procfs.Stat]:
        """Yield those that are still in the group: any other pid may name a stranger by now."""
        members = set(self._groups.members(job.id) or ()) if self._groups is not None else set()
        for pid in pids:
            stat = procfs.stat(pid) if pid in members else None
            if stat is not None and stat.state not in "ZX":
                yield stat

    def _walked(self, job: RunningJob) -> list[procfs.Stat]:
        return tree.members(job.id, self._living_leader(job))

    def _living_leader(self, job: RunningJob) -> int | None:
        stat = procfs.stat(cast("int", job.leader))
        if stat is None or stat.state in "ZX" or self._is_another(job, stat):
            return None
        return stat.pid


def _found(members: Iterable[procfs.Stat]) -> _Targets:
    """Return targets that a walk of /proc has found."""
    by_pid = {each.pid: each for each in members}
    return _Targets(list(by_pid), lambda some: (by_pid[pid] for pid in some))


def _hastened(kill: Kill, signum: int, kill_at: float, due: float) -> Kill:
    """Return a kill after one more signal, with SIGKILL due at the earlier of both times."""
    return replace(
        kill,
        signalled=[*(n for n in kill.signalled if n != signum), signum],
        kill_at=min(kill.kill_at, kill_at),
        kill_at_boottime=min(kill.kill_at_boottime or due, due),
    )
