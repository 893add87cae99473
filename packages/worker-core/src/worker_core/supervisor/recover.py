"""What became of jobs that this process does not hold, from their directories and from /proc.

Asked for one job, the findings are:

    held          this process runs it                                        -> running
    ended         exit.json is there                                          -> its end
    unknown       nobody ever claimed it                                      -> {}
    not forked    claimed, but it was noted that its supervisor did not come
                  to fork it                                                  -> {}, unclaimed
    ours          claimed, and its leader is our child: we executed ourselves -> watched as before
    adopted       claimed, and its leader lives, or has ended and is not
                  reaped yet: its supervisor died                             -> watched by pidfd
    unrecorded    claimed, no pid.json, but a leader carries its mark, and
                  is the one whose birth was noted, if any was                -> adopted
    kept          claimed, and there is no such process any more, but
                  somebody has kept its pidfd                                 -> its end
    gone          claimed, and there is no such process any more              -> lost
    rebooted      claimed in another boot of the machine                      -> lost

A process is the leader only if pid, start time and boot id agree. What a kept pidfd names is
believed only once it has ended: all that it is good for then is to say how. For the last two, what
is left of the tree is ended before `lost` is recorded.
"""

from __future__ import annotations

import os
import time
from typing import Any

from worker_core.disk.jobdir import JobDir, Pid
from worker_core.linux import descriptors, procfs
from worker_core.linux.procfs import Stat
from worker_core.supervisor import tree
from worker_core.supervisor.bag import Held, contents
from worker_core.supervisor.exit_status import has_ended
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.running_job import RunningJob, logged, lost

_SPARE = 64  # descriptors that a supervisor needs beside those of the leaders that it watches


def known(table: JobTable, job_id: str) -> dict[str, Any]:
    """Return what is known of a job as the wire's "known" tells it, taking it up if it lives."""
    job = table.jobs.get(job_id)
    jobdir = table.run_dir.job(job_id)
    if job is None:
        end = jobdir.exit()
        if end is not None:
            jobdir.forget()  # the supervisor before ended between the two
            return {"exit": vars(end)}
        spec = jobdir.claimed()
        if spec is None:
            return {}
        if _never_forked(table, jobdir):
            jobdir.unclaim()
            return {}
        job = _take_up(table, jobdir, spec)
    pid = vars(job.pid) if job.pid is not None else None
    told: dict[str, Any] = {"running": pid, "stopping": job.kill is not None}
    if job.kill is not None:
        left = max(table.kill_due(job.kill) - table.monotonic(), 0.0)
        told |= {"signalled": job.kill.signalled, "kill_in": left}
    return told if job.unrecorded is None else told | {"unrecorded": job.unrecorded}


def _never_forked(table: JobTable, jobdir: JobDir) -> bool:
    """Return whether the supervisor before has claimed a job and ended before it forked."""
    booted = table.now() - time.clock_gettime(time.CLOCK_BOOTTIME)
    claimed_at = jobdir.claimed_at()
    this_boot = claimed_at is not None and claimed_at >= booted
    return this_boot and table.start_log.never_forked(jobdir.job_id) and jobdir.pid() is None


def take_back(table: JobTable, bag: int) -> None:
    """Take up the jobs whose leaders the supervisor before had others keep."""
    for some in contents(bag):
        for held, pidfd in some:
            try:
                _take_back(table, held, pidfd)
            finally:
                os.close(pidfd)


def _take_back(table: JobTable, held: Held, pidfd: int) -> None:
    jobdir = table.run_dir.job(held.job_id)
    if held.job_id in table.jobs or jobdir.exit() is not None:
        return
    spec = jobdir.claimed()
    if spec is None or _never_forked(table, jobdir):
        return
    # A start whose launcher died was given to another one: then the first process was not it.
    if table.start_log.of(held.job_id) in (None, held.pid):
        _take_up(table, jobdir, spec, (held, pidfd))


def _take_up(
    table: JobTable,
    jobdir: JobDir,
    spec: dict[str, Any],
    kept: tuple[Held, int] | None = None,
) -> RunningJob:
    job = RunningJob(jobdir, _complete(spec), pid=jobdir.pid(), kill=jobdir.kill())
    recorded, now = job.pid, table.now()
    booted = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    if recorded is not None and recorded.boot_id != table.boot:
        table.take_lost(job, lost("the machine was restarted", now))
        return job
    noted = table.start_log.of(jobdir.job_id)
    leader = _leader(recorded, noted, jobdir.job_id)
    if leader is not None and leader.ppid != os.getpid():
        job.foreign = True
        job.pidfd = _hold(leader)
        leader = None if job.pidfd is None else leader
    if leader is None and kept is not None and has_ended(kept[1]):
        held, pidfd = kept
        job.pid = recorded or Pid(held.pid, 0, table.boot, held.started_at)
        job.foreign, job.pidfd = True, os.dup(pidfd)
        table.adopt(job)
        return job
    if leader is None:
        why = "it ended while no supervisor was there to see it"
        why += ", or was never started" if recorded is None and noted is None else ""
        # A power cut takes pid.json, which is not synced to the disk.
        claimed_at = jobdir.claimed_at()
        if recorded is None and claimed_at is not None and claimed_at < booted:
            why = "the machine was restarted"
        table.take_lost(job, lost(why, now))
        return job
    if recorded is None:
        started_at = booted + leader.start_time / os.sysconf("SC_CLK_TCK")  # proc(5)
        job.pid = Pid(leader.pid, leader.start_time, table.boot, started_at)
        with logged(job, "cannot record its pid"):
            jobdir.write_pid(job.pid)
    table.adopt(job)
    return job


def _hold(leader: Stat) -> int | None:
    """Open a descriptor of a process, leaving enough of them for everything else.

    Returns None if the process has gone, whether or not its pid names another one.
    """
    try:
        pidfd = os.pidfd_open(leader.pid)
    except ProcessLookupError:
        return None
    now = procfs.stat(leader.pid)
    if now is None or now.start_time != leader.start_time:
        os.close(pidfd)
        return None
    descriptors.make_room(pidfd, _SPARE)
    return pidfd


def _leader(recorded: Pid | None, noted: int | None, job_id: str) -> Stat | None:
    if recorded is None:
        return tree.find_leader(job_id, noted) or _unreaped(job_id, noted)
    stat = procfs.stat(recorded.pid)
    if stat is None or stat.start_time != recorded.start_time:
        return None
    return stat


def _unreaped(job_id: str, noted: int | None) -> Stat | None:
    """Return a leader that has ended and that nobody has reaped yet: it still has its mark."""
    stat = None if noted is None else procfs.stat(noted)
    if stat is None or stat.session != stat.pid:
        return None
    return stat if procfs.realtime_limit(stat.pid) == tree.mark(job_id) else None


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    """Fill in what a claim that was cut short does not say."""
    return {"stop_signal": "SIGTERM", "stop_grace": 10.0, "timeout": None} | spec
