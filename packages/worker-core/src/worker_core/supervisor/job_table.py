"""The table of running jobs: start, signal, kill, time out, reap, and record the end.

Everything here runs in the supervisor's one thread, which waits for nothing. Leaders are children
of their launchers (launchers.py), which reap them and tell that: before a signal, what they have
told is heard, so that no pid is signalled that was reaped before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from worker_core import failpoints
from worker_core.disk import reserve
from worker_core.disk.jobdir import Cause, Exit, Kill, Pid, boot_id
from worker_core.linux import procfs
from worker_core.model import signals
from worker_core.supervisor import fsuid, launch, requests, tree
from worker_core.supervisor.aside import owner
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.exit_status import Ending, ExitWatch
from worker_core.supervisor.keeper import Keeper
from worker_core.supervisor.killer import Killer
from worker_core.supervisor.launcher import rusage
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.orphans import Orphans
from worker_core.supervisor.output_cap import OutputCap
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.running_job import (
    Doom,
    RunningJob,
    exited,
    logged,
    lost,
    noticed_late,
    outcome,
    started,
    unless_shut_down,
    unrecorded,
)
from worker_core.supervisor.start_log import StartLog
from worker_core.supervisor.starts import START_PATIENCE, Ended, Outcomes, Starts, Used, timed_out
from worker_core.supervisor.turns import Turns
from worker_core.wire import Message

log = logging.getLogger(__name__)

_NOTHING: Mapping[str, Any] = {}
_RETRY = 0.1  # seconds between two tries of what a shortage made fail
_ANNOUNCE = 0.02  # seconds after which a job is told to run; of a shorter one its end says it
_PAUSE_PATIENCE = 1.0  # seconds until a start that hangs delays an upgrade no more
_SWEEP = 0.02  # seconds between two looks at what a tree still holds
_LOOK = 0.05  # seconds between two looks whether a tree has ended within its grace
_LOOK_FOREIGN = 0.5  # the same if its processes are not our children: then /proc has to be walked
_GRACE_PATIENCE = 10.0  # seconds that an upgrade waits for trees that have their grace
_SWEEP_PATIENCE = 10.0  # seconds until a process that SIGKILL does not end stops nobody any more


class JobTable:
    """All jobs of one state directory that run, by id and by pid."""

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
        """`emit` tells every engine, `watched` is whether there is one, `on_empty` comes last.

        `keeper` has the pidfds of leaders kept for the supervisor after this one.
        """
        self.run_dir = run_dir
        self.jobs: dict[str, RunningJob] = {}
        with fsuid.own():
            self.start_log = StartLog(run_dir.path)
        self.boot = boot_id()
        self._loop = loop
        self._groups = groups
        self._root_jobs = root_jobs
        self._emit = emit
        self._watched = watched
        self._on_empty = on_empty
        self._keeper = keeper
        self._kills = Killer(loop, groups)
        self._adopted = ExitWatch(loop, self._ended_elsewhere)
        self._by_pid: dict[int, RunningJob] = {}
        self._dead: list[int] = []  # launchers that were reaped, and what was with them
        self._unknown: list[Ended] = []
        outcomes = Outcomes(
            self._begun,
            self._not_started,
            self._doomed,
            self._ended,
            self._leader_ended,
            again=self._again,
            forked=self._forked,
            strays=self._strays,
        )
        bag = -1 if keeper is None else keeper.bag.writing()
        kept = (self.start_log.fileno(), run_dir.fileno(), bag)
        self._starts = Starts(loop, groups, outcomes, self._run, now=self.now, kept=kept)
        self.launchers = self._starts.launchers
        self._sweeping: dict[str, RunningJob] = {}
        self._turns = Turns(loop)
        self._orphans = Orphans(self.jobs, groups, self._known)
        self._output_cap = OutputCap(loop, self.jobs, self._stop_output)

    # -- start ---------------------------------------------------------------------------------

    def start(self, job_id: str, spec: dict[str, Any]) -> None:
        """Start a job unless it was started before; `started` or `exited` is told either way."""
        failpoints.point("supervisor.start_received")
        if job_id in self.jobs:
            self._tell_again(job_id)
        else:
            self._claim(RunningJob(self.run_dir.job(job_id), spec))

    def _claim(self, job: RunningJob) -> None:
        if job.end is not None:  # killed while it waited for another try
            return
        try:
            # A try that failed may have left the file: a job in the table is ours all the same.
            claimed = job.dir.claim(job.spec) or job.id in self.jobs
        except OSError as error:
            log.warning("job %s: cannot write its claim: %s", job.id, error)
            self.jobs[job.id] = job
            self._loop.call_later(_RETRY, lambda: self._claim(job))
            return
        if not claimed:
            self._tell_again(job.id)
            return
        self.start_log.claimed(job.id)
        failpoints.point("supervisor.claimed")
        self.jobs[job.id] = job
        self._output_cap.wake()
        job.give_up = self._loop.clock.monotonic() + START_PATIENCE
        self._starts.give(job)

    def _run(
        self,
        job_id: str,
        spec: dict[str, Any],
        before_fork: launch.BeforeFork,
        forked: launch.Forked,
    ) -> launch.Launched:
        """Start a job; a launcher does that."""

        def noted(enforced: dict[str, str | None]) -> None:
            # In this order: who reads no such note starts the job again, and this one sees then
            # that its supervisor is gone.
            self.start_log.forking(job_id)
            before_fork(enforced)

        pids: list[int] = []

        def kept(pid: int) -> None:
            pids.append(pid)
            self._keep(job_id, pid)
            forked(pid)

        directory = self.run_dir.job(job_id)
        launched = launch.launch(
            directory, spec, self._groups, noted, kept, root_jobs=self._root_jobs
        )
        if not pids:
            self._keep(job_id, launched.pid)
        return launched

    def _keep(self, job_id: str, pid: int) -> None:
        """Have the next supervisor know a leader, and how it ends; a launcher does that, because
        this supervisor may be gone before it hears of the leader."""
        self.start_log.note(job_id, pid)
        if self._keeper is not None:
            self._keeper.put(job_id, pid, self.now())

    def _again(self, job: RunningJob) -> None:
        """Have the next supervisor know that nothing of a job has been forked, after all."""
        job.forked = None
        self.start_log.claimed(job.id)

    def _forked(self, job: RunningJob, pid: int) -> None:
        """Take note that a launcher has forked a leader, and had it kept."""
        job.forked = pid
        if self._keeper is not None:
            self._keeper.count()

    def _begun(
        self,
        job: RunningJob,
        pid: int,
        enforced: dict[str, str | None],
        began: float,
        at: float,
    ) -> None:
        job.began = began
        job.spec = requests.kept(job.spec)
        self._by_pid[pid] = job
        job.pid = Pid(pid, 0, self.boot, at, enforced)
        failpoints.point("supervisor.begun")
        if job.forked is None:
            self._forked(job, pid)
        self._arm_timeout(job)
        job.announcement = self._loop.call_later(_ANNOUNCE, lambda: self._announce(job))
        if enforced or not tree.can_mark(job.id):  # a mark does not tell of that
            self._record_pid(job)
        doom, job.doom = job.doom, None
        if doom is not None and doom.cause != "not_started":
            self._loop.attempt(lambda: self._kill_doomed(job, doom))
        for signum in job.early_signals:
            self.signal(job.id, signum)
        job.early_signals.clear()

    def _kill_doomed(self, job: RunningJob, doom: Doom) -> None:
        self._kills.kill(job, doom.cause, doom.reason, doom.signum, grace=doom.grace)

    def _announce(self, job: RunningJob) -> None:
        """Record and tell which process the leader is; of a short job its end says that.

        Who comes after this supervisor knows the leader by its birth and its mark until then.
        """
        self._record_pid(job)
        self._emit(started(job))

    def record_all(self) -> None:
        """Record which process each leader is: this one is about to execute itself."""
        for job in self.jobs.values():
            if job.pid is not None:
                self._record_pid(job)

    def _record_pid(self, job: RunningJob) -> None:
        pid = cast("Pid", job.pid)
        if pid.start_time:  # it was recorded
            return
        job.pid = replace(pid, start_time=_start_time(pid.pid))
        with logged(job, "cannot record its pid"):
            job.dir.write_pid(job.pid)
        failpoints.point("supervisor.pid_written")

    def _doomed(self, job: RunningJob, doom: Doom) -> None:
        """End a job of which nothing runs, and nothing will; or one that is lost."""
        if doom.cause == "lost":
            self.take_lost(job, Exit("lost", None, None, doom.reason, self.now()))
        elif doom.cause == "not_started":
            self._not_started(job, str(doom.reason), None)
        else:
            why = doom.reason or "killed before it could start"
            self._end(job, Exit(doom.cause, None, None, why, self.now()))

    def _not_started(self, job: RunningJob, reason: str, exit_code: int | None) -> None:
        with logged(job, "cannot write the reason to its output"), contextlib.ExitStack() as s:
            fd = launch.open_spool(s, job.dir, job.streams[-1])  # where a shell says it
            os.write(fd, reason.encode("utf-8", "surrogateescape") + b"\n")
        self._end(job, Exit("not_started", exit_code, None, reason, self.now()))

    def _arm_timeout(self, job: RunningJob) -> None:
        """Have the job ended when its time is up, whatever is done to the clock of the machine."""
        limit = job.spec.get("timeout")
        if limit is None:
            return
        job.timeout = self._loop.call_at(
            job.began + limit,
            lambda: self.kill(job.id, cause="timeout", reason=timed_out(limit)),
        )

    def _tell_again(self, job_id: str) -> None:
        job, end = self.jobs.get(job_id), self.run_dir.job(job_id).exit()
        if job is not None and job.pid is not None:
            self._emit(started(job))
        elif end is not None:
            self._emit(exited(job_id, end))

    def pause(self, seconds: float) -> bool:
        """Have no start under way, and no launcher, so that this process can execute itself.

        To be called until it returns True, with the seconds since the first call. Jobs that have
        not begun are given up, for the engine to send them again.
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

    def graced(self, seconds: float) -> bool:
        """Whether a tree has its grace, whose leader has ended: this process must not execute
        itself meanwhile. After so many seconds of waiting the grace is cut short."""
        found = [each for each in self._sweeping.values() if each.grace_until]
        if seconds <= _GRACE_PATIENCE:
            return bool(found)
        for each in found:
            each.grace_until = 0.0
            self._sweep(each)
        return False

    # -- signal and kill -------------------------------------------------------------------------

    def signal(self, job_id: str, signum: int) -> None:
        """Send a signal to the tree, with no intent to end it."""
        job = self.jobs.get(job_id)
        if job is not None:
            what = job_id, "signal", signum
            self._turns.take(owner(job), what, lambda: self._signal(job_id, signum))

    def _signal(self, job_id: str, signum: int) -> None:
        self.launchers.hear()  # of its end, if it has ended: then its pid may be another's
        job = self.jobs.get(job_id)
        if job is None or job.end is not None:
            return
        if job.leader is not None:
            self._kills.signal(job, signum)
        elif job.pid is None and signum not in job.early_signals:
            job.early_signals.append(signum)  # its launcher may not have said that it begins

    def kill(
        self,
        job_id: str,
        *,
        cause: Cause = "kill",
        reason: str | None = None,
        signum: int | None = None,
        grace: float | None = None,
    ) -> None:
        """End a job: the stop signal to its tree, after the grace SIGKILL. Asking again hastens it.

        A leader that has ended, or is on its way out, ended by itself: it keeps its outcome.
        """

        def kill() -> None:
            self._kill(job_id, cause, reason, signum, grace)

        job = self.jobs.get(job_id)
        if job is None or job.kill is None or cause != "kill":
            kill()
            return
        wait = job.spec["stop_grace"] if grace is None else grace
        due = self._loop.clock.monotonic() + wait
        self._turns.take(owner(job), (job_id, "kill", signum), kill, due)

    def _kill(
        self,
        job_id: str,
        cause: Cause,
        reason: str | None,
        signum: int | None,
        grace: float | None,
    ) -> None:
        self.launchers.hear()  # of its end, if it has ended: then its pid may be another's
        job = self.jobs.get(job_id)
        if job is not None and job.grace_until:
            self._hasten(job, signum, grace)
            return
        if job is None or job.end is not None or job.gone:
            return
        if signum is None:
            signum = signals.number(job.spec["stop_signal"])
        wait = job.spec["stop_grace"] if grace is None else grace
        if job.pid is None:
            doom = Doom(cause, reason, signum, wait)
            if not self._starts.doom(job, doom):
                self._doomed(job, doom)
            return
        self._kills.kill(job, cause, reason, signum, grace=wait)

    def _stop_output(self, job: RunningJob, reason: str) -> None:
        self.kill(job.id, cause="output_limit", reason=reason)

    def _hasten(self, job: RunningJob, signum: int | None, grace: float | None) -> None:
        if signum is None:
            signum = signals.number(job.spec["stop_signal"])
        wait = job.spec["stop_grace"] if grace is None else grace
        self._kills.hasten(job, signum, grace=wait)
        job.give_up = job.grace_until + _SWEEP_PATIENCE
        self._sweep(job)

    # -- end ---------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Collect every child that has ended: launchers, what they left, and what jobs left.

        Leaders are reaped by their launchers while these live.
        """
        while (pid := _ended_child()) is not None:
            if pid in self._by_pid:  # it may be another's: its leader was reaped by a launcher
                self.launchers.hear()
            stat = None if pid in self._by_pid else procfs.stat(pid)
            executed = procfs.has_executed(pid)
            group = "" if stat is None else os.path.basename(procfs.cgroup(pid) or "")
            _, status, usage = os.wait4(pid, 0)
            self._orphans.forget(pid)
            used = rusage(usage)
            if pid in self.launchers:
                log.info("launcher %d has ended: %d", pid, os.waitstatus_to_exitcode(status))
                self._dead.append(pid)
            elif not self._ended(pid, status, used) and not self._starts.reaped(
                pid, status, used, executed=executed
            ):
                session = stat.session if stat is not None else 0
                self._unknown.append(Ended(pid, session, group, status, used))
        dead, unknown = self._dead, self._unknown
        self._dead, self._unknown = [], []
        if dead:
            self._starts.bury(dead, unknown)
        for job in list(self._sweeping.values()):
            self._sweep(job)

    def _ended(self, pid: int, status: int, used: Used) -> bool:
        """Take note of the end of a leader; False if that is no leader."""
        job = self._by_pid.get(pid)
        return job is not None and self._leader_ended(job.id, pid, status, used)

    def _leader_ended(self, job_id: str, pid: int, status: int, used: Used) -> bool:
        """Take note of the end of a job's leader; False if that is not its leader.

        Launchers tell of their own children each, in no common order: another one may have told
        already that the same pid leads another job.
        """
        job = self.jobs.get(job_id)
        if job is None or job.pid is None or job.pid.pid != pid or job.end:
            return False
        if self._by_pid.get(pid) is job:
            del self._by_pid[pid]
        failpoints.point("supervisor.reaped")
        end = unless_shut_down(outcome(status, job.kill, self._over_memory(job)))
        self._end(job, end, self._used(job, used) | {"ended_at": self.now()})
        return True

    def _over_memory(self, job: RunningJob) -> int | None:
        """Return the job's memory limit if the kernel ended something for going over it."""
        limit = job.spec.get("limits", {}).get("memory")
        if limit is None or self._groups is None:
            return None
        return limit if self._groups.read(job.id, "memory.events").get("oom_kill") else None

    def _used(self, job: RunningJob, leader: Used) -> dict[str, Any]:
        """Return what a job used, by the names of Exit: its leader, or all where a group counts."""
        user, system, peak = leader
        used = {
            "wall_seconds": self._loop.clock.monotonic() - job.began,
            "user_seconds": user,
            "system_seconds": system,
            "max_rss_bytes": peak,
        }
        if self._groups is not None:
            used |= self._groups.usage(job.id, pid_namespace=job.pid_namespace)
        return used

    def adopt(self, job: RunningJob) -> None:
        """Watch a job that another supervisor started, or this one before it executed itself."""
        pid = cast("Pid", job.pid)
        self.jobs[job.id] = job
        self._output_cap.wake()
        if self._keeper is not None:
            self._keeper.add(job.id, pid.pid, pid.started_at, job.pidfd)
        job.began = pid.start_time / os.sysconf("SC_CLK_TCK")  # proc(5): ticks since boot
        if job.pidfd is not None:
            self._adopted.add(job)
        if job.gone:
            return
        self._by_pid[pid.pid] = job
        if job.kill is None or job.kill.cause != "timeout":
            self._arm_timeout(job)
        self._kills.resume(job)

    def take_lost(self, job: RunningJob, end: Exit) -> None:
        """Record a job as lost, after what is left of its tree was ended."""
        self.jobs[job.id] = job
        job.foreign = True
        self._end(job, end)

    def now(self) -> float:
        """Return the time for stamps."""
        return self._loop.clock.now()

    def monotonic(self) -> float:
        """Return the time for measuring."""
        return self._loop.clock.monotonic()

    def kill_due(self, kill: Kill) -> float:
        """Return when SIGKILL is due (monotonic time)."""
        return self._kills.due(kill)

    def _ended_elsewhere(self, job: RunningJob, ending: Ending) -> None:
        """Record the end of an adopted leader."""
        pid = cast("Pid", job.pid)
        if self._by_pid.get(pid.pid) is job:  # else a child of ours has got its pid already
            del self._by_pid[pid.pid]
        if ending.status is None:
            self._end(job, lost(ending.why, ending.at))
            return
        end = unless_shut_down(outcome(ending.status, job.kill, self._over_memory(job)))
        used: dict[str, Any] = {"wall_seconds": ending.monotonic - job.began}
        if self._groups is not None:
            used |= self._groups.usage(job.id, pid_namespace=job.pid_namespace)
        end = end if ending.seen else noticed_late(end)
        self._end(job, end, used | {"ended_at": ending.at})

    def _end(self, job: RunningJob, end: Exit, used: Mapping[str, Any] = _NOTHING) -> None:
        pid = job.pid
        if pid is not None:
            began: dict[str, Any] = {"started_at": pid.started_at, "enforced": pid.enforced}
            end = replace(end, pid=pid.pid, **began, **used)
        job.end = end
        job.grace_until = self._kills.grace_until(job)
        now = self._loop.clock.monotonic()
        job.give_up = max(now, job.grace_until) + _SWEEP_PATIENCE
        for timer in (job.announcement, job.timeout, job.kill_timer):
            if timer is not None:
                timer.cancel()
        self._sweeping[job.id] = job
        self._loop.attempt(lambda: self._sweep(job))

    def _sweep(self, job: RunningJob) -> None:
        """End what the leader left in its tree; record the end once nothing is left."""
        if self._has_grace(job):
            return
        if self._left_behind(job):
            now = self._loop.clock.monotonic()
            if now < job.give_up:
                # One round at a time: every child that ends meanwhile is a reason to look, too.
                if job.sweep_timer is None or job.sweep_timer.due <= now:
                    again = now + _SWEEP
                    job.sweep_timer = self._loop.call_at(again, lambda: self._sweep(job))
                return
            log.error("job %s: some of its processes do not end by SIGKILL", job.id)
        if self._sweeping.pop(job.id, None) is not None:
            self._record(job)

    def _has_grace(self, job: RunningJob) -> bool:
        """Whether something is left that a kill has reached and that may still end by itself."""
        now = self._loop.clock.monotonic()
        if now >= job.grace_until or not self._lives(job):
            job.grace_until = 0.0
            return False
        # Its processes are our children by now, and the end of each is a reason to look as well.
        due = min(now + (_LOOK_FOREIGN if job.foreign else _LOOK), job.grace_until)
        if job.sweep_timer is not None:
            job.sweep_timer.cancel()
        job.sweep_timer = self._loop.call_at(due, lambda: self._sweep(job))
        return True

    def _lives(self, job: RunningJob) -> bool:
        """Whether a process of a job is left whose leader has ended."""
        if self._groups is not None and not self._groups.emptied(job.id):
            return True
        if job.foreign:
            return bool(tree.members(job.id))
        return any(whose == job.id for _, whose in self._orphans.beside(job.id))

    def _left_behind(self, job: RunningJob) -> bool:
        if job.id not in self._sweeping or (job.pid is None and not job.foreign):
            return False
        grouped = self._groups is not None and not self._groups.emptied(job.id)
        if grouped and self._groups is not None:
            self._groups.kill(job.id)
        orphans = [each for each in self._orphans.beside(job.id) if not each[0].ended]
        strangers = [stat for stat, whose in orphans if whose is None and self._are_told_apart()]
        if job.foreign or any(whose == job.id for _, whose in orphans):
            strangers += tree.members(job.id)
        tree.send_all(strangers, signal.SIGKILL)
        return grouped or bool(strangers)

    def _known(self, pid: int) -> bool:
        """Whether a child is a leader, will be one, or is a launcher."""
        return pid in self._by_pid or pid in self._starts

    def _are_told_apart(self) -> bool:
        """Whether an orphan that is no running job's is certainly a stranger: it has dropped its
        mark, or its job has ended."""
        if self._groups is not None or len(self.jobs) == len(self._sweeping):
            return True
        # Without marks it cannot be told whose it is, as long as there is more than one.
        return all(tree.can_mark(each) for each in self.jobs)

    def _strays(self) -> list[int]:
        """Return the children that nobody knows and that are no running job's by mark or group."""
        return [stat.pid for stat, whose in self._orphans.beside("") if whose is None]

    def _record(self, job: RunningJob) -> None:
        """Write the end to the job's directory before anybody is told; try until it is written.

        It is synced to the disk only when no engine is there to commit it to its store.
        """
        end = cast("Exit", job.end)
        self._output_cap.apply_at_end(job)
        try:
            job.dir.write_exit(end, sync=not self._watched())
        except OSError as error:
            log.error("job %s: cannot record its end: %s", job.id, error)
            if reserve.is_full(error):
                reserve.give_up(self.run_dir.state_dir)
            self._tell_unrecorded(job, error.strerror or str(error))
            self._loop.call_later(_RETRY, lambda: self._record(job))
            return
        failpoints.point("supervisor.exit_written")
        with logged(job, "cannot forget it"):
            job.dir.forget()
        if self._groups is not None:
            self._groups.remove(job.id)
        self.jobs.pop(job.id, None)
        self._emit(exited(job.id, end))
        if not self.jobs:
            self._on_empty()

    def _tell_unrecorded(self, job: RunningJob, why: str) -> None:
        """Tell the engines that a process has ended, once for each reason why it is not recorded.

        Not how it has ended: that is told when it is recorded.
        """
        if job.unrecorded != why:
            job.unrecorded = why
            self._emit(unrecorded(job))


def _start_time(pid: int) -> int:
    """Return when a process was started; 0, so that nobody takes it for ours later, if unknown."""
    try:
        stat = procfs.stat(pid)
    except OSError as error:  # the job runs: this must not look as if it did not
        log.error("cannot read the start time of process %d: %s", pid, error)
        return 0
    return stat.start_time if stat is not None else 0


def _ended_child() -> int | None:
    """Return a child that has ended and is not reaped, None if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
