"""The table of running jobs: what happens to a job from its claim to its recorded end.

All of it runs in the one thread of the supervisor and never blocks. The parts:

    starts.py          gives starts to launchers, and ends those that hang for too long
    announcer.py       records the leader and reports the start
    timeout.py         ends a job when its time is over
    output_cap.py      bounds its output
    kill_requests.py   ends or signals a job on request
    reaper.py          reaps children that have ended
    sweeper.py         ends the processes that a leader leaves behind
    exit_recorder.py   writes the end

Leaders are children of their launchers, which reap them and report it. So the supervisor reads the
reports of the launchers before it sends a signal: the pid of a reaped leader may name another
process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from worker_core import failpoints
from worker_core.disk.jobdir import Exit, Kill, Pid, boot_id
from worker_core.model import encoding
from worker_core.model.state import Cause
from worker_core.supervisor import events, fsuid, outcome, requests, timeout, tree
from worker_core.supervisor.announcer import Announcer
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.exit_recorder import ExitRecorder
from worker_core.supervisor.exit_status import Ending, ExitWatch
from worker_core.supervisor.keeper import Keeper
from worker_core.supervisor.kill_requests import KillRequests
from worker_core.supervisor.killer import Killer
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.noted_launch import NotedLaunch
from worker_core.supervisor.output_cap import OutputCap
from worker_core.supervisor.reaper import Reaper
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.running_job import EndRequest, RunningJob, logged
from worker_core.supervisor.start_log import StartLog
from worker_core.supervisor.starts import START_PATIENCE, Outcomes, Starts, Used
from worker_core.supervisor.sweeper import Sweeper
from worker_core.supervisor.turns import Turns
from worker_core.wire import Message

log = logging.getLogger(__name__)

_RETRY = 0.1  # seconds between two attempts to claim a job
_PAUSE_PATIENCE = 1.0  # seconds after which a start that hangs no longer delays an upgrade


class JobTable:
    """All running jobs of one state directory."""

    def __init__(
        self,
        run_dir: RunDir,
        loop: Loop,
        groups: Cgroups | None,
        *,
        root_jobs: bool,
        emit: Callable[[Message], None],
        watched: Callable[[], bool],
        on_empty: Callable[[], None],
        keeper: Keeper | None = None,
    ) -> None:
        """`emit` sends a message to all engines; `watched` returns whether there is an engine.

        `on_empty` is called when no job runs any more. `keeper` has the pidfds of leaders kept for
        the next supervisor.
        """
        self.run_dir = run_dir
        self.jobs: dict[str, RunningJob] = {}
        with fsuid.own():
            self.start_log = StartLog(run_dir.path)
        self.boot = boot_id()
        self._loop = loop
        self._groups = groups
        self._emit = emit
        self._on_empty = on_empty
        self._keeper = keeper
        self._announcer = Announcer(loop, emit)
        self._leaders: dict[int, RunningJob] = {}
        share = Turns(loop)
        self._killer = Killer(loop, groups, share)
        self._watch = ExitWatch(loop, self._foreign_leader_ended)
        self._recorder = ExitRecorder(
            run_dir.state_dir, loop, groups, emit, watched=watched, on_recorded=self._recorded
        )
        self._sweeper = Sweeper(loop, groups, self.jobs, self._is_known, self._swept)
        outcomes = Outcomes(
            self._begun,
            self._not_started,
            self._end_unbegun,
            self._child_ended,
            self._leader_ended,
            again=self._starts_again,
            forked=self._forked,
            strays=self._sweeper.strays,
        )
        run = NotedLaunch(run_dir, groups, self.start_log, keeper, self.now, root_jobs=root_jobs)
        self._starts = Starts(loop, groups, outcomes, run, now=self.now, kept=run.descriptors())
        self.launchers = self._starts.launchers
        self._reaper = Reaper(loop, self._starts, self._sweeper, self._leaders, self._child_ended)
        self._kill_requests = KillRequests(
            loop,
            self.jobs,
            self._killer,
            share,
            starts=self._starts,
            sweeper=self._sweeper,
            end_unbegun=self._end_unbegun,
        )
        self._output_cap = OutputCap(
            loop, self.jobs, lambda job, why: self._kill_requests.end(job, Cause.OUTPUT_LIMIT, why)
        )
        self.kill = self._kill_requests.kill
        self.signal = self._kill_requests.signal
        self.reap = self._reaper.reap
        self.waits_for_grace = self._sweeper.waits_for_grace

    # -- start -------------------------------------------------------------------------------------

    def start(self, job_id: str, spec: dict[str, Any]) -> None:
        """Start a job, unless it was started before; report its start or its end in either case."""
        failpoints.point("supervisor.start_received")
        if job_id in self.jobs:
            self._report_again(job_id)
        else:
            self._claim(RunningJob(self.run_dir.job(job_id), spec))

    def _claim(self, job: RunningJob) -> None:
        if job.end is not None:  # it was killed between two attempts
            return
        try:
            # An attempt that failed may have left the file. A job in the table is ours anyway.
            claimed = job.dir.claim(job.spec) or job.id in self.jobs
        except OSError as error:
            log.warning("job %s: cannot write its claim: %s", job.id, error)
            self.jobs[job.id] = job
            self._loop.call_later(_RETRY, lambda: self._claim(job))
            return
        if not claimed:
            self._report_again(job.id)
            return
        self.start_log.claimed(job.id)
        failpoints.point("supervisor.claimed")
        self.jobs[job.id] = job
        self._output_cap.wake()
        job.give_up = self._loop.clock.monotonic() + START_PATIENCE
        self._starts.give(job)

    def _report_again(self, job_id: str) -> None:
        job, end = self.jobs.get(job_id), self.run_dir.job(job_id).exit()
        if job is not None and job.pid is not None:
            self._emit(events.started(job))
        elif end is not None:
            self._emit(events.exited(job_id, end))

    def _starts_again(self, job: RunningJob) -> None:
        """Note for the next supervisor that no process of a job was forked after all."""
        job.forked = None
        self.start_log.claimed(job.id)

    def _forked(self, job: RunningJob, pid: int) -> None:
        """Take note that a launcher has forked a leader and put its pidfd into the bag."""
        job.forked = pid
        if self._keeper is not None:
            self._keeper.count()

    def _begun(
        self, job: RunningJob, pid: int, enforced: dict[str, str | None], began: float, at: float
    ) -> None:
        job.began = began
        job.spec = requests.kept(job.spec)
        self._leaders[pid] = job
        job.pid = Pid(pid, 0, self.boot, at, enforced)
        failpoints.point("supervisor.begun")
        if job.forked is None:
            self._forked(job, pid)
        timeout.arm(job, self._loop, self._time_is_over)
        self._announcer.arm(job)
        if enforced or not tree.can_mark(job.id):  # the mark alone would not tell what enforces
            self._announcer.record(job)
        self._kill_requests.begun(job)

    def _time_is_over(self, job: RunningJob, reason: str) -> None:
        self._kill_requests.end(job, Cause.TIMEOUT, reason)

    def _end_unbegun(self, job: RunningJob, request: EndRequest) -> None:
        """End a job that is lost, or that has no process and will not get one."""
        if request.cause is Cause.LOST:
            self.take_lost(job, Exit(Cause.LOST, None, None, request.reason, self.now()))
        elif request.cause is Cause.NOT_STARTED:
            self._not_started(job, str(request.reason), None)
        else:
            why = request.reason or "killed before it could start"
            self._end(job, Exit(request.cause, None, None, why, self.now()))

    def _not_started(self, job: RunningJob, reason: str, exit_code: int | None) -> None:
        """End a job that cannot be started; the reason is in its output, as with a shell."""
        with logged(job, "cannot write the reason to its output"):
            fd = job.dir.open_stream(job.streams[-1])  # where a shell writes it
            try:
                os.write(fd, encoding.encode(reason) + b"\n")
            finally:
                os.close(fd)
        self._end(job, Exit(Cause.NOT_STARTED, exit_code, None, reason, self.now()))

    # -- jobs of another supervisor ----------------------------------------------------------------

    def adopt(self, job: RunningJob) -> None:
        """Watch a job that another supervisor started, or this one before it executed itself."""
        pid = cast("Pid", job.pid)
        self.jobs[job.id] = job
        self._output_cap.wake()
        if self._keeper is not None:
            self._keeper.add(job.id, pid.pid, pid.started_at, job.pidfd)
        job.began = pid.start_time / os.sysconf("SC_CLK_TCK")  # proc(5): ticks since boot
        if job.pidfd is not None:
            self._watch.add(job)
        if job.gone:
            return
        self._leaders[pid.pid] = job
        if job.kill is None or job.kill.cause is not Cause.TIMEOUT:
            timeout.arm(job, self._loop, self._time_is_over)
        self._killer.resume(job)

    def take_lost(self, job: RunningJob, end: Exit) -> None:
        """Record a job as lost, after the rest of its tree was killed."""
        self.jobs[job.id] = job
        job.foreign = True
        self._end(job, end)

    # -- end ---------------------------------------------------------------------------------------

    def _child_ended(self, pid: int, status: int, used: Used) -> bool:
        """Take note of the end of a child of ours; return False if it is not a leader."""
        job = self._leaders.get(pid)
        return job is not None and self._leader_ended(job.id, pid, status, used)

    def _leader_ended(self, job_id: str, pid: int, status: int, used: Used) -> bool:
        """Take note of the end of a job's leader; return False if it is not its leader.

        Each launcher reports its own children, in no common order. Another launcher may have
        reported already that the same pid is the leader of another job.
        """
        job = self.jobs.get(job_id)
        if job is None or job.pid is None or job.pid.pid != pid or job.end:
            return False
        failpoints.point("supervisor.reaped")
        user, system, peak = used
        measured = {
            "wall_seconds": self._loop.clock.monotonic() - job.began,
            "user_seconds": user,
            "system_seconds": system,
            "max_rss_bytes": peak,
        }
        self._end(job, replace(self._outcome(job, status), ended_at=self.now()), measured)
        return True

    def _foreign_leader_ended(self, job: RunningJob, ending: Ending) -> None:
        """Take note of the end of a leader that is not our child."""
        if ending.status is None:
            self._end(job, outcome.lost(ending.why, ending.at))
            return
        end = self._outcome(job, ending.status)
        end = end if ending.seen else outcome.noticed_late(end)
        measured = {"wall_seconds": ending.monotonic - job.began}
        self._end(job, replace(end, ended_at=ending.at), measured)

    def _outcome(self, job: RunningJob, status: int) -> Exit:
        limit = outcome.exceeded_memory_limit(job, self._groups)
        return outcome.unless_shut_down(outcome.outcome(status, job.kill, limit))

    def _end(self, job: RunningJob, end: Exit, measured: dict[str, Any] | None = None) -> None:
        """End a job whose leader has ended: sweep up, then record the end."""
        pid = job.pid
        if pid is not None:
            if self._leaders.get(pid.pid) is job:  # else the pid is another leader's by now
                del self._leaders[pid.pid]
            used = None if measured is None else outcome.used(job, self._groups, measured)
            began: dict[str, Any] = {"started_at": pid.started_at, "enforced": pid.enforced}
            end = replace(end, pid=pid.pid, usage=used, **began)
        job.end = end
        for timer in (job.announcement, job.timeout, job.kill_timer):
            if timer is not None:
                timer.cancel()
        self._sweeper.add(job, self._killer.grace_until(job))

    def _swept(self, job: RunningJob) -> None:
        self._output_cap.apply_at_end(job)
        self._recorder.record(job)

    def _recorded(self, job: RunningJob) -> None:
        self.jobs.pop(job.id, None)
        self._emit(events.exited(job.id, cast("Exit", job.end)))
        if not self.jobs:
            self._on_empty()

    def _is_known(self, pid: int) -> bool:
        """Return whether a child is a leader, a launcher, or a process that is being started."""
        return pid in self._leaders or pid in self._starts

    def hanging_starts(self) -> int:
        """Return how many starts hang."""
        return self._starts.hanging()

    # -- before this process executes itself -------------------------------------------------------

    def pause(self, seconds: float) -> bool:
        """End all pending starts and all launchers, so that this process can execute itself.

        To be called until it returns True, with the seconds since the first call. Jobs that have
        not begun are given up; the engine sends them again.
        """
        not_begun = self._starts.stop()
        if seconds > _PAUSE_PATIENCE:
            self._starts.end_hanging()
        if not self._starts:
            jobs = self.jobs.values()
            waiting = (each for each in jobs if each.pid is None and each.end is None)
            for job in {each.id: each for each in (*not_begun, *waiting)}.values():
                job.dir.unclaim()
                self.jobs.pop(job.id, None)  # it may have been given up before, and tried again
            self.launchers.end_all()
            self.reap()
        recorded = all(each.end is None for each in self.jobs.values())
        gone = not self.launchers or seconds > 2 * _PAUSE_PATIENCE
        return recorded and not self._starts and gone

    def record_all(self) -> None:
        """Record which process each leader is."""
        for job in self.jobs.values():
            if job.pid is not None:
                self._announcer.record(job)

    # -- clocks ------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time for stamps."""
        return self._loop.clock.now()

    def monotonic(self) -> float:
        """Return the time for measuring."""
        return self._loop.clock.monotonic()

    def kill_due(self, kill: Kill) -> float:
        """Return when SIGKILL is due (monotonic time)."""
        return self._killer.due(kill)
