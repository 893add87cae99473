"""Starts that are under way: a launcher has them and has not reported their outcome.

A start may hang: on the job's directory, command or input, or because its job is stopped before
it executes its program. The supervisor does not wait for it. If the job of a start that hangs is
killed or timed out, or the start is past its deadline, its launcher is killed; the process that may
exist comes to the supervisor and is killed as well, and then the job ends. If the launcher has
other jobs, which it cannot reap as long as it hangs, it is killed too; but the start goes on, with
the process that exists or with a new launcher that has nothing else to do.

The note of a dead launcher (slots.py) says exactly how far its start was:

    preparing                no process was made                   -> the start is given again
    spawning, and a child    that has not executed its program     -> it is waited for
    of ours is the job's     that has executed its program         -> the job runs
    spawning, and a child    that was certainly the job's          -> its exit status counts
    has ended                that may have been another job's      -> the job is lost
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from worker_core.linux import procfs
from worker_core.model.state import Cause
from worker_core.supervisor import start_limit, timeout, tree
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.launcher import Launch
from worker_core.supervisor.launchers import PATIENCE, Launchers, News
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import EndRequest, RunningJob
from worker_core.supervisor.slots import IDLE, PREPARING, Held
from worker_core.supervisor.start_limit import HeldBack

log = logging.getLogger(__name__)

Used = tuple[float, float, int | None]
"""User and system seconds and the peak of memory of a process that has ended."""

_RETRY = 0.1  # seconds between two attempts after one failed because of a shortage
# Seconds for which a start is attempted while the machine is short of processes or memory.
START_PATIENCE = float(os.environ.get("WORKER_START_PATIENCE", "15"))
# Seconds after which a start that hangs is given up. A network file system may be gone for some
# minutes before a job fails because of it.
_DEADLINE = float(os.environ.get("WORKER_START_DEADLINE", "300"))
_RESTART_PATIENCE = _DEADLINE  # additional seconds, for a start whose launcher has died
_LOOK = 0.05  # seconds between two checks of starts without a report
_RELIEF = 1.0  # seconds after which a launcher that hangs and has other jobs is killed
_MISSED = 3  # searches that do not find a start before it is given again
_LOST_LAUNCHER = "the process that was starting it has ended"


@dataclass
class Start:
    """One start that is under way."""

    job: RunningJob
    given: float  # monotonic time
    at: float  # Unix time
    enforced: dict[str, str | None] = field(default_factory=dict)
    child: int | None = None  # a child of ours: the job's process, before it has executed
    missed: int = 0


@dataclass(frozen=True)
class Ended:
    """A child of the supervisor that was reaped, and that the supervisor did not know."""

    pid: int
    session: int
    group: str  # the name of its control group
    status: int
    used: Used


@dataclass(frozen=True)
class Outcomes:
    """The functions that are called with the outcome of a start."""

    begun: Callable[[RunningJob, int, dict[str, str | None], float, float], None]
    """Called with the pid, what enforces each limit, and monotonic and Unix time of the start."""
    refused: Callable[[RunningJob, str, int | None], None]
    ended_unbegun: Callable[[RunningJob, EndRequest], None]
    """Called if the end of the job was requested, and no process of it runs."""
    ended: Callable[[int, int, Used], bool]
    """Called with pid, wait status, and what the process used; returns whether it was a leader."""
    leader_ended: Callable[[str, int, int, Used], object]
    """The same for a leader that its launcher has reaped, with the id of its job first: its pid may
    be another leader's by now."""
    again: Callable[[RunningJob], None]
    """Called before a start is given again; no process of the job was forked."""
    forked: Callable[[RunningJob, int], None]
    """Called with the pid of the process, before it executes its program."""
    strays: Callable[[], list[int]]
    """Returns the children of the supervisor that are neither a leader, a launcher or a start, nor
    of a running job by mark or group."""


class Starts:
    """All starts of one supervisor."""

    def __init__(
        self,
        loop: Loop,
        groups: Cgroups | None,
        outcomes: Outcomes,
        run: Launch,
        *,
        now: Callable[[], float],
        kept: Iterable[int],
    ) -> None:
        """`run` is called in a launcher to start a job, and needs the descriptors `kept`; `now`
        returns the time for stamps."""
        self._loop = loop
        self._groups = groups
        self._outcomes = outcomes
        self._now = now
        self._starts: dict[str, Start] = {}
        self._children: dict[int, Start] = {}
        self._held_back = HeldBack()
        self._armed = False
        self._search = 0  # looks left at which each start is searched for
        self.launchers = Launchers(loop, run, self._hear, kept)

    def give(self, job: RunningJob, *, alone: bool = False) -> None:
        """Have a job started, unless it runs or has ended."""
        if job.end is not None or job.pid is not None:
            return
        self._arm()
        if not alone and self._held_back.has(job.owner):
            self._held_back.put(job)
            return
        self._give(job, alone=alone)

    def _give(self, job: RunningJob, *, alone: bool = False) -> None:
        self._starts[job.id] = Start(job, self._loop.clock.monotonic(), self._now())
        self.launchers.give(job.id, job.spec, job.owner, alone=alone)

    def end(self, job: RunningJob, request: EndRequest) -> bool:
        """End a start; False if there is none that a launcher has, so that the job can be ended at
        once. Otherwise the job ends as soon as it is certain that nothing of it runs."""
        start = self._starts.get(job.id)
        if start is None:
            self._held_back.take(job)
            return False
        if self.launchers.take_back(job.id):
            del self._starts[job.id]
            return False
        job.end_request = job.end_request or request
        self._arm()
        return True

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, pid: int) -> bool:
        """Return whether a child of ours is a launcher, or a job's process before its exec."""
        return pid in self.launchers or pid in self._children

    def hanging(self) -> int:
        """Return how many starts have kept their launcher for longer than usual."""
        now = self._loop.clock.monotonic()
        return sum(now - held.since > _RELIEF for held, _, _ in self.launchers.holding())

    def stop(self) -> list[RunningJob]:
        """Give launchers no start any more; return the jobs that no launcher has taken."""
        held = self.launchers.hold()  # a second call returns the same ones again
        back = [self._starts.pop(each).job for each in held if each in self._starts]
        return back + self._held_back.take_all()

    def end_hanging(self) -> None:
        """Kill every launcher that works on a start; a process that exists counts as begun."""
        for _, pid, _ in self.launchers.holding():
            self.launchers.end(pid)
        for pid, start in list(self._children.items()):
            self._begin(start, pid)

    # -- reports -----------------------------------------------------------------------------------

    def _hear(self, news: News) -> None:
        match news:
            case ("planned", job_id, enforced):
                if job_id in self._starts:
                    self._starts[job_id].enforced = enforced
            case ("forked", job_id, pid):
                if job_id in self._starts:
                    forked = self._starts[job_id]
                    self._outcomes.forked(forked.job, pid)
            case ("begun", job_id, pid, enforced, began, at):
                start = self._starts.pop(job_id, None)
                if start is None:
                    self._kill_unwanted(job_id, pid)
                else:
                    self._outcomes.begun(start.job, pid, enforced, began, at)
            case ("refused", job_id, reason, exit_code):
                start = self._starts.pop(job_id, None)
                if start is not None:
                    self._outcomes.refused(start.job, reason, exit_code)
            case ("short", job_id, reason):
                self._again(job_id, reason)
            case ("ended", job_id, pid, status, used):
                self._outcomes.leader_ended(job_id, pid, status, used)

    def _kill_unwanted(self, job_id: str, pid: int) -> None:
        log.error("job %s: it has begun although it was given up: ending process %d", job_id, pid)

        def end() -> None:
            tree.send_all(tree.members(job_id), signal.SIGKILL)

        self._loop.attempt(end)

    def _again(self, job_id: str, reason: str, *, alone: bool = False) -> None:
        """Give a start again: no process of it has run."""
        self.launchers.forget(job_id)
        start = self._starts.pop(job_id, None)
        if start is None:
            return
        job = start.job
        if job.end_request is not None:
            self._outcomes.ended_unbegun(job, job.end_request)
        elif self._loop.clock.monotonic() > job.give_up + alone * _RESTART_PATIENCE:
            self._outcomes.refused(job, f"cannot start a process now: {reason}", None)
        else:
            self._outcomes.again(job)
            self._loop.call_later(_RETRY, lambda: self.give(job, alone=alone))

    # -- starts that hang --------------------------------------------------------------------------

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._armed = False
        if not self._starts and not self._held_back:
            return
        self._arm()
        self._share()
        self.launchers.look()
        now = self._loop.clock.monotonic()
        waiting = self.launchers.take_all_back() if self._search else set()
        held = {
            what.job_id: (pid, jobs, now - what.since)
            for what, pid, jobs in self.launchers.holding()
        }
        for start in list(self._starts.values()):
            if now - start.given < PATIENCE:
                break  # they are in the order in which they were given
            self._bound(start, now)
            self._look_at(start, now, held.get(start.job.id))
            if self._search and start.job.id not in (waiting | held.keys()):
                self._miss(start)
        self._search = max(self._search - 1, 0)

    def _share(self) -> None:
        """Keep one owner's starts from taking all launchers: hold some back, and give others."""
        starting = [each.job for each in self._starts.values() if each.child is None]
        for job in self._held_back.take_next(starting):
            self._give(job)
        if not self.launchers.are_all_busy():
            return
        held = {what.job_id for what, _, _ in self.launchers.holding()}
        crowds = start_limit.crowds(each for each in starting if each.id in held)
        for job in starting:
            waits = job.id not in held and job.end_request is None
            if waits and job.owner in crowds and self.launchers.take_back(job.id):
                del self._starts[job.id]
                self._held_back.put(job)

    def _look_at(self, start: Start, now: float, holder: tuple[int, int, float] | None) -> None:
        job = start.job
        if start.child is not None:
            self._look_at_child(start, start.child)
        elif holder is not None:
            launcher, jobs, seconds = holder
            if job.end_request is not None:
                if seconds > PATIENCE:
                    self.launchers.end(launcher)
            elif jobs and seconds > _RELIEF:
                self.launchers.end(launcher)
        elif job.end_request is not None:
            if self.launchers.take_back(job.id):
                self._again(job.id, _LOST_LAUNCHER)
            else:
                self._miss(start)
        elif not self.launchers and now > job.give_up and self.launchers.take_back(job.id):
            self._again(job.id, str(self.launchers.fault))

    def _miss(self, start: Start) -> None:
        """Count a search that did not find a start: its launcher died before it noted the start."""
        start.missed += 1
        if start.child is None and start.missed >= _MISSED:
            self._again(start.job.id, _LOST_LAUNCHER, alone=True)

    def _bound(self, start: Start, now: float) -> None:
        """Request the end of a start whose time is up."""
        job = start.job
        if job.end_request is not None:
            return
        limit = job.spec.get("timeout")
        if limit is not None and now >= start.given + limit:
            job.end_request = EndRequest(Cause.TIMEOUT, timeout.reason(limit))
        elif now >= start.given + _DEADLINE:
            job.end_request = EndRequest(
                Cause.NOT_STARTED,
                f"cannot start: its program was not loaded within {_DEADLINE:g} seconds; a file "
                "system of its directory, command or input does not answer, or its process was "
                "stopped",
            )

    def _look_at_child(self, start: Start, child: int) -> None:
        job = start.job
        program = tree.program(child) if job.pid_namespace else child
        if program is not None and procfs.has_executed(program):
            stat = procfs.stat(child)
            if stat is not None and not stat.ended:
                self._begin(start, child)
        elif job.end_request is not None:
            if self._groups is not None:
                self._groups.kill(job.id)
            os.kill(child, signal.SIGKILL)  # our child, and not reaped yet
            if job.pid_namespace:
                tree.send_all(tree.members(job.id), signal.SIGKILL)

    def _begin(self, start: Start, pid: int) -> None:
        self._children.pop(pid, None)
        del self._starts[start.job.id]
        self._outcomes.begun(start.job, pid, start.enforced, start.given, start.at)

    # -- what dead launchers leave -----------------------------------------------------------------

    def reaped(self, pid: int, status: int, used: Used, *, executed: bool) -> bool:
        """Handle the end of a job's process before its exec was seen; False if it is not one."""
        start = self._children.pop(pid, None)
        if start is None:
            return False
        if executed and not (start.job.pid_namespace and os.waitstatus_to_exitcode(status) == 127):
            self._begin(start, pid)
            self._outcomes.ended(pid, status, used)
        else:
            start.child = None
            self._again(start.job.id, _LOST_LAUNCHER, alone=True)
        return True

    def bury(self, pids: Iterable[int], ended: Iterable[Ended]) -> None:
        """Settle what dead launchers were working on; `ended` are children reaped with them."""
        found = [self.launchers.bury(pid) for pid in pids]
        # The last reports of the launchers may have named some of them as leaders.
        unknown = [e for e in ended if not self._outcomes.ended(e.pid, e.status, e.used)]
        for held in found:
            if held is not None:
                self._settle(held, unknown)

    def _settle(self, held: Held, ended: list[Ended]) -> None:
        if held.pid:  # it may have reaped this leader, whose status is known only from the note
            unmeasured = (0.0, 0.0, None)
            self._outcomes.leader_ended(held.ended, held.pid, held.status, unmeasured)
        if held.stage == IDLE:
            self._search = 3 * _MISSED  # it may have taken a start and not noted that yet
            self._arm()
            return
        start = self._starts.get(held.job_id)
        if start is None or start.child is not None:
            return
        child = self._child_of(start)
        if child is not None:
            start.child = child
            self._children[child] = start
            self._look_at_child(start, child)
        elif held.stage == PREPARING:
            self._again(held.job_id, _LOST_LAUNCHER, alone=True)
        else:
            self._settle_ended(start, ended)

    def _settle_ended(self, start: Start, ended: list[Ended]) -> None:
        """Settle a start whose process, if there was one, has ended already."""
        job_id = start.job.id
        found = [each for each in ended if each.pid == start.job.forked]
        if not found:
            found = [each for each in ended if each.group == job_id]
        if not found:  # but not those in the groups of other jobs
            found = [e for e in ended if e.pid == e.session and len(e.group) != len(job_id)]
        if not found and not self._outcomes.strays():
            self._again(job_id, _LOST_LAUNCHER, alone=True)
        elif len(found) == 1:
            self._begin(start, found[0].pid)
            self._outcomes.ended(found[0].pid, found[0].status, found[0].used)
        else:  # a process that is not recognised may be the job's
            del self._starts[job_id]
            why = f"the end could not be observed: {_LOST_LAUNCHER}"
            self._outcomes.ended_unbegun(start.job, EndRequest(Cause.LOST, why))

    def _child_of(self, start: Start) -> int | None:
        """Return the process of a start whose launcher is dead, if there is one.

        The mark may be missing: our own limit may be below it, or the job may have dropped it at
        once. The pid, if it was reported, and the control group identify the process too.
        """
        job = start.job
        for pid in procfs.children(os.getpid()):
            if pid not in self and (pid == job.forked or self._may_lead(pid, job)):
                return pid
        return None

    def _may_lead(self, pid: int, job: RunningJob) -> bool:
        """Return whether a process can be the leader of a job, and not one that it has left."""
        stat = procfs.stat(pid)
        if stat is None or stat.session not in (pid, os.getsid(0)):  # ours until it has its own
            return False
        if procfs.realtime_limit(pid) == job.mark:
            return True
        return self._groups is not None and procfs.cgroup(pid) == self._groups.path(job.id)
