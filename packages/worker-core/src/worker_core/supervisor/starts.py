"""Starts that are under way: given to a launcher, and nothing told of them yet.

A start may hang: on the job's directory, command or input, or on its process that is stopped before
it has executed its program. The supervisor goes on meanwhile. What is done with such a start:

    killed, timed out, or   its launcher is ended by SIGKILL; what that leaves of the job comes to
    past its deadline       the supervisor and is ended too; then the job ends as what it was doomed
                            to
    its launcher has other  likewise, as nobody would reap those; but the start goes on: by the
    jobs                    process that is there, or by a launcher that has nothing else to do

The start of a dead launcher is one of these, and which one is exact (slots.py):

    not begun       it has certainly made no process for the job        -> given once more
    on its way      a process that has not executed its program yet     -> waited for
    begun           a process that has                                  -> it runs
    ended           a zombie that was its child                         -> its exit status counts
    not known       a child of ours that may be its process             -> the job is lost
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from worker_core.linux import procfs
from worker_core.model.state import Cause
from worker_core.supervisor import aside, timeout, tree
from worker_core.supervisor.aside import Aside
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.launcher import Launch
from worker_core.supervisor.launchers import PATIENCE, Launchers, News
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import EndRequest, RunningJob
from worker_core.supervisor.slots import IDLE, PREPARING, Held

log = logging.getLogger(__name__)

Used = tuple[float, float, int | None]
"""User and system seconds and the peak of memory of a process that has ended."""

_RETRY = 0.1  # seconds between two tries of what a shortage made fail
# Seconds for which a start is tried while the machine is short.
START_PATIENCE = float(os.environ.get("WORKER_START_PATIENCE", "15"))
# Seconds after which a start that hangs is given up. A file system of the network that is gone for
# some minutes is to cost no job.
_DEADLINE = float(os.environ.get("WORKER_START_DEADLINE", "300"))
_RESTART_PATIENCE = _DEADLINE  # more, for a start whose launcher has died
_LOOK = 0.05  # seconds between two looks at starts of which nothing is told
_RELIEF = 1.0  # seconds for which a launcher that hangs may leave its other jobs unreaped
_MISSED = 3  # looks at which nobody had a start
_LOST_LAUNCHER = "the process that was starting it has ended"


@dataclass
class Start:
    """One start that is under way."""

    process: RunningJob
    given: float  # monotonic time
    at: float  # Unix time
    enforced: dict[str, str | None] = field(default_factory=dict)
    child: int | None = None  # its process, now ours, which has not executed its program
    missed: int = 0


@dataclass(frozen=True)
class Ended:
    """A process that was reaped here and that nobody knew."""

    pid: int
    session: int
    group: str  # the name of its control group
    status: int
    used: Used


@dataclass(frozen=True)
class Outcomes:
    """Who is told how a start went."""

    begun: Callable[[RunningJob, int, dict[str, str | None], float, float], None]
    """With pid, what enforces each limit, and monotonic and Unix time of the start."""
    refused: Callable[[RunningJob, str, int | None], None]
    doomed: Callable[[RunningJob, EndRequest], None]
    ended: Callable[[int, int, Used], bool]
    """With pid, wait status, and what it used; returns whether it was the leader of a job."""
    leader_ended: Callable[[str, int, int, Used], object]
    """The same of a leader that its launcher has reaped, with the id of its job: by now its pid
    may be another leader's."""
    again: Callable[[RunningJob], None]
    """It is given once more; nothing of it has been forked."""
    forked: Callable[[RunningJob, int], None]
    """With the pid of what has not executed its program yet, and Unix time."""
    strays: Callable[[], list[int]]
    """Returns the children of ours that are nobody's: no leader, launcher or start, and neither
    the mark nor the group of a job that runs."""


class Starts:
    """All of them."""

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
        """`run` starts a job, in a launcher, and needs the descriptors `kept` for that; `now` is
        the time for stamps."""
        self._loop = loop
        self._groups = groups
        self._outcomes = outcomes
        self._now = now
        self._starts: dict[str, Start] = {}
        self._children: dict[int, Start] = {}
        self._aside = Aside()
        self._armed = False
        self._search = 0  # looks at which is asked whether anybody has each start
        self.launchers = Launchers(loop, run, self._hear, kept)

    def give(self, process: RunningJob, *, alone: bool = False) -> None:
        """Have a job started, unless it has ended meanwhile, or runs."""
        if process.end is not None or process.pid is not None:
            return
        self._arm()
        if not alone and self._aside.has(aside.owner(process)):
            self._aside.put(process)
            return
        self._give(process, alone=alone)

    def _give(self, process: RunningJob, *, alone: bool = False) -> None:
        self._starts[process.id] = Start(process, self._loop.clock.monotonic(), self._now())
        self.launchers.give(process.id, process.spec, alone=alone)

    def doom(self, process: RunningJob, doom: EndRequest) -> bool:
        """End a start; False if none is under way, so that the job can be ended at once.

        It ends as what it is doomed to as soon as it is certain that nothing of it runs.
        """
        start = self._starts.get(process.id)
        if start is None:
            self._aside.take(process)
            return False
        if self.launchers.take_back(process.id):
            del self._starts[process.id]
            return False
        process.doom = process.doom or doom
        self._arm()
        return True

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, pid: int) -> bool:
        """Whether a child of ours is a launcher, or on its way to be a job's leader."""
        return pid in self.launchers or pid in self._children

    def hanging(self) -> int:
        """Return how many starts have kept their launcher for longer than usual."""
        now = self._loop.clock.monotonic()
        return sum(now - held.since > _RELIEF for held, _, _ in self.launchers.holding())

    def stop(self) -> list[RunningJob]:
        """Give no start any more; return the jobs whose start nobody has."""
        held = self.launchers.hold()  # at a second call, the same ones once more
        back = [self._starts.pop(each).process for each in held if each in self._starts]
        return back + self._aside.take_all()

    def end_hanging(self) -> None:
        """End every launcher that has a start in hand; what is on its way counts as begun."""
        for _, pid, _ in self.launchers.holding():
            self.launchers.end(pid)
        for pid, start in list(self._children.items()):
            self._begin(start, pid)

    # -- news --------------------------------------------------------------------------------------

    def _hear(self, news: News) -> None:
        match news:
            case ("planned", job_id, enforced):
                if job_id in self._starts:
                    self._starts[job_id].enforced = enforced
            case ("forked", job_id, pid):
                if job_id in self._starts:
                    forked = self._starts[job_id]
                    self._outcomes.forked(forked.process, pid)
            case ("begun", job_id, pid, enforced, began, at):
                start = self._starts.pop(job_id, None)
                if start is None:
                    self._kill_unwanted(job_id, pid)
                else:
                    self._outcomes.begun(start.process, pid, enforced, began, at)
            case ("refused", job_id, reason, exit_code):
                start = self._starts.pop(job_id, None)
                if start is not None:
                    self._outcomes.refused(start.process, reason, exit_code)
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
        """Give a start once more: nothing of it has run."""
        start = self._starts.pop(job_id, None)
        if start is None:
            return
        process = start.process
        if process.doom is not None:
            self._outcomes.doomed(process, process.doom)
        elif self._loop.clock.monotonic() > process.give_up + alone * _RESTART_PATIENCE:
            self._outcomes.refused(process, f"cannot start a process now: {reason}", None)
        else:
            self._outcomes.again(process)
            self._loop.call_later(_RETRY, lambda: self.give(process, alone=alone))

    # -- starts that hang --------------------------------------------------------------------------

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._armed = False
        if not self._starts and not self._aside:
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
            self._look_at(start, now, held.get(start.process.id))
            if self._search and start.process.id not in (waiting | held.keys()):
                self._miss(start)
        self._search = max(self._search - 1, 0)

    def _share(self) -> None:
        """Have no owner's starts take all launchers: give and put aside what has to wait."""
        starting = [each.process for each in self._starts.values() if each.child is None]
        for process in self._aside.take_next(starting):
            self._give(process)
        if not self.launchers.are_all_busy():
            return
        held = {what.job_id for what, _, _ in self.launchers.holding()}
        crowds = aside.crowds(each for each in starting if each.id in held)
        for process in starting:
            waits = process.id not in held and process.doom is None
            if waits and aside.owner(process) in crowds and self.launchers.take_back(process.id):
                del self._starts[process.id]
                self._aside.put(process)

    def _look_at(self, start: Start, now: float, holder: tuple[int, int, float] | None) -> None:
        process = start.process
        if start.child is not None:
            self._look_at_child(start, start.child)
        elif holder is not None:
            launcher, jobs, seconds = holder
            if seconds > (_RELIEF if process.doom is None else PATIENCE) and (jobs or process.doom):
                self.launchers.end(launcher)
        elif process.doom is not None:
            if self.launchers.take_back(process.id):
                self._again(process.id, _LOST_LAUNCHER)
            else:
                self._miss(start)
        elif not self.launchers and now > process.give_up and self.launchers.take_back(process.id):
            self._again(process.id, str(self.launchers.fault))

    def _miss(self, start: Start) -> None:
        """Take note that nobody has a start: who had taken it is dead, and had not begun with
        it."""
        start.missed += 1
        if start.child is None and start.missed >= _MISSED:
            self._again(start.process.id, _LOST_LAUNCHER, alone=True)

    def _bound(self, start: Start, now: float) -> None:
        """Doom a start whose time is up."""
        process = start.process
        if process.doom is not None:
            return
        limit = process.spec.get("timeout")
        if limit is not None and now >= start.given + limit:
            process.doom = EndRequest(Cause.TIMEOUT, timeout.reason(limit))
        elif now >= start.given + _DEADLINE:
            process.doom = EndRequest(
                Cause.NOT_STARTED,
                f"cannot start: its program was not loaded within {_DEADLINE:g} seconds; a file "
                "system of its directory, command or input does not answer, or its process was "
                "stopped",
            )

    def _look_at_child(self, start: Start, child: int) -> None:
        process = start.process
        program = tree.program(child) if process.pid_namespace else child
        if program is not None and procfs.has_executed(program):
            stat = procfs.stat(child)
            if stat is not None and not stat.ended:
                self._begin(start, child)
        elif process.doom is not None:
            if self._groups is not None:
                self._groups.kill(process.id)
            os.kill(child, signal.SIGKILL)  # our child, and not reaped yet
            if process.pid_namespace:
                tree.send_all(tree.members(process.id), signal.SIGKILL)

    def _begin(self, start: Start, pid: int) -> None:
        self._children.pop(pid, None)
        del self._starts[start.process.id]
        self._outcomes.begun(start.process, pid, start.enforced, start.given, start.at)

    # -- what dead launchers leave -----------------------------------------------------------------

    def reaped(self, pid: int, status: int, used: Used, *, executed: bool) -> bool:
        """Take note of the end of a process that was on its way; False if it was no such one."""
        start = self._children.pop(pid, None)
        if start is None:
            return False
        if executed and not (
            start.process.pid_namespace and os.waitstatus_to_exitcode(status) == 127
        ):
            self._begin(start, pid)
            self._outcomes.ended(pid, status, used)
        else:
            start.child = None
            self._again(start.process.id, _LOST_LAUNCHER, alone=True)
        return True

    def bury(self, pids: Iterable[int], ended: Iterable[Ended]) -> None:
        """Settle what launchers had in hand that were reaped; `ended` was reaped with them."""
        found = [self.launchers.bury(pid) for pid in pids]
        # Of some it is told only now that they had begun.
        unknown = [e for e in ended if not self._outcomes.ended(e.pid, e.status, e.used)]
        for held in found:
            if held is not None:
                self._settle(held, unknown)

    def _settle(self, held: Held, ended: list[Ended]) -> None:
        if held.pid:  # it had taken its exit status, and nobody else can
            unmeasured = (0.0, 0.0, None)
            self._outcomes.leader_ended(held.ended, held.pid, held.status, unmeasured)
        if held.stage == IDLE:
            self._search = 3 * _MISSED  # it may have taken one that it had not noted yet
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
        """It may have had a process that has ended already."""
        job_id = start.process.id
        found = [each for each in ended if each.pid == start.process.forked]
        if not found:
            found = [each for each in ended if each.group == job_id]
        if not found:  # those of other groups are of other jobs
            found = [e for e in ended if e.pid == e.session and len(e.group) != len(job_id)]
        if not found and not self._outcomes.strays():
            self._again(job_id, _LOST_LAUNCHER, alone=True)
        elif len(found) == 1:
            self._begin(start, found[0].pid)
            self._outcomes.ended(found[0].pid, found[0].status, found[0].used)
        else:  # a process that is not recognised may be the job's
            del self._starts[job_id]
            why = f"the end could not be observed: {_LOST_LAUNCHER}"
            self._outcomes.doomed(start.process, EndRequest(Cause.LOST, why))

    def _child_of(self, start: Start) -> int | None:
        """Return the process of a start whose launcher is dead, if there is one.

        A job may not have its mark, because somebody has bounded us below it or because the job has
        dropped it at once. Its pid, if that was told, and its group say so too.
        """
        process = start.process
        for pid in procfs.children(os.getpid()):
            if pid not in self and (pid == process.forked or self._may_lead(pid, process)):
                return pid
        return None

    def _may_lead(self, pid: int, process: RunningJob) -> bool:
        """Whether a process can be the leader of a job, and is not what the leader has left."""
        stat = procfs.stat(pid)
        if stat is None or stat.session not in (pid, os.getsid(0)):  # ours until it has its own
            return False
        if procfs.realtime_limit(pid) == process.mark:
            return True
        return self._groups is not None and procfs.cgroup(pid) == self._groups.path(process.id)
