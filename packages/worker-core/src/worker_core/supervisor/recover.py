"""Finds out the state of jobs that this process does not hold, from their directories and /proc.

For one job, the findings are:

    held          this process holds it                                  -> running
    ended         exit.json is there                                     -> its end
    unknown       no supervisor ever claimed it                          -> {}
    not forked    claimed, but its supervisor ended before the fork,
                  as the start log says                                  -> {}, unclaimed
    ours          claimed, and its leader is our child: we executed
                  ourselves                                              -> watched as before
    adopted       claimed, and its leader lives, or has ended and is
                  not reaped yet: its supervisor died                    -> watched by pidfd
    unrecorded    claimed, without pid.json; but the first process of a
                  session has its mark, and the pid that the start log
                  names, if it names one                                 -> adopted
    kept          claimed, and its leader is gone, but another process
                  has kept the leader's pidfd                            -> its end
    gone          claimed, and its leader is gone                        -> lost
    rebooted      claimed in another boot of the machine                 -> lost

A process is the leader only if pid, start time and boot id agree. A kept pidfd is used only once
its process has ended, and only to learn how it ended. In the last two cases, the rest of
the tree is killed before `lost` is recorded.
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
from worker_core.supervisor.outcome import lost
from worker_core.supervisor.running_job import RunningJob, logged

_SPARE = 64  # descriptors that a supervisor needs beside those of the leaders that it watches


def known(table: JobTable, job_id: str) -> dict[str, Any]:
    """Return what is known of a job, as in the message "known"; adopt the job if it lives."""
    job = table.jobs.get(job_id)
    directory = table.run_dir.job(job_id)
    if job is None:
        end = directory.exit()
        if end is not None:
            directory.forget()  # the supervisor that wrote it ended before it could do that
            return {"exit": end.to_dict()}
        spec = directory.claimed()
        if spec is None:
            return {}
        if _never_forked(table, directory):
            directory.unclaim()
            return {}
        job = _take_up(table, directory, spec)
    pid = vars(job.pid) if job.pid is not None else None
    known: dict[str, Any] = {"running": pid, "stopping": job.kill is not None}
    if job.kill is not None:
        left = max(table.kill_due(job.kill) - table.monotonic(), 0.0)
        known |= {"signalled": job.kill.signalled, "kill_in": left}
    return known if job.unrecorded is None else known | {"unrecorded": job.unrecorded}


def _never_forked(table: JobTable, directory: JobDir) -> bool:
    """Return whether the previous supervisor claimed a job and ended before it forked."""
    booted = table.now() - time.clock_gettime(time.CLOCK_BOOTTIME)
    claimed_at = directory.claimed_at()
    this_boot = claimed_at is not None and claimed_at >= booted
    return this_boot and table.start_log.never_forked(directory.job_id) and directory.pid() is None


def take_back(table: JobTable, bag: int) -> None:
    """Adopt the jobs whose leaders the previous supervisor has put into a bag."""
    for some in contents(bag):
        for held, pidfd in some:
            try:
                _take_back(table, held, pidfd)
            finally:
                os.close(pidfd)


def _take_back(table: JobTable, held: Held, pidfd: int) -> None:
    directory = table.run_dir.job(held.job_id)
    if held.job_id in table.jobs or directory.exit() is not None:
        return
    spec = directory.claimed()
    if spec is None or _never_forked(table, directory):
        return
    # If the launcher of a start dies, another launcher gets the start. Then the kept process may be
    # the first one, which was not the leader.
    if table.start_log.leader(held.job_id) in (None, held.pid):
        _take_up(table, directory, spec, (held, pidfd))


def _take_up(
    table: JobTable,
    directory: JobDir,
    spec: dict[str, Any],
    kept: tuple[Held, int] | None = None,
) -> RunningJob:
    job = RunningJob(directory, _complete(spec), pid=directory.pid(), kill=directory.kill())
    recorded, now = job.pid, table.now()
    booted = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    if recorded is not None and recorded.boot_id != table.boot:
        table.take_lost(job, lost("the machine was restarted", now))
        return job
    noted = table.start_log.leader(directory.job_id)
    leader = _leader(recorded, noted, directory.job_id)
    if leader is not None and leader.ppid != os.getpid():
        job.foreign = True
        job.pidfd = _open_pidfd(leader)
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
        claimed_at = directory.claimed_at()
        if recorded is None and claimed_at is not None and claimed_at < booted:
            why = "the machine was restarted"
        table.take_lost(job, lost(why, now))
        return job
    if recorded is None:
        started_at = booted + leader.start_time / os.sysconf("SC_CLK_TCK")  # proc(5)
        job.pid = Pid(leader.pid, leader.start_time, table.boot, started_at)
        with logged(job, "cannot record its pid"):
            directory.write_pid(job.pid)
    table.adopt(job)
    return job


def _open_pidfd(leader: Stat) -> int | None:
    """Return a pidfd of a process, None if it has gone and its pid may name another process.

    Raises the limit on open files if few descriptors are left for everything else.
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
    """Return a leader that has ended but has not been reaped: it still has its mark."""
    stat = None if noted is None else procfs.stat(noted)
    if stat is None or stat.session != stat.pid:
        return None
    return stat if procfs.realtime_limit(stat.pid) == tree.mark(job_id) else None


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    """Add the fields that are missing in a claim that was cut short."""
    return {"stop_signal": "SIGTERM", "stop_grace": 10.0, "timeout": None} | spec
