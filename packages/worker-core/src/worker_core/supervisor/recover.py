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
from worker_core.supervisor.job_table import Processes
from worker_core.supervisor.running_job import Process, logged, lost

_SPARE = 64  # descriptors that a supervisor needs beside those of the leaders that it watches


def known(processes: Processes, job_id: str) -> dict[str, Any]:
    """Return what is known of a job as the wire's "known" tells it, taking it up if it lives."""
    process = processes.jobs.get(job_id)
    jobdir = processes.run_dir.job(job_id)
    if process is None:
        end = jobdir.exit()
        if end is not None:
            jobdir.forget()  # the supervisor before ended between the two
            return {"exit": vars(end)}
        spec = jobdir.claimed()
        if spec is None:
            return {}
        if _never_forked(processes, jobdir):
            jobdir.unclaim()
            return {}
        process = _take_up(processes, jobdir, spec)
    pid = vars(process.pid) if process.pid is not None else None
    told: dict[str, Any] = {"running": pid, "stopping": process.kill is not None}
    if process.kill is not None:
        left = max(processes.kill_due(process.kill) - processes.monotonic(), 0.0)
        told |= {"signalled": process.kill.signalled, "kill_in": left}
    return told if process.unrecorded is None else told | {"unrecorded": process.unrecorded}


def _never_forked(processes: Processes, jobdir: JobDir) -> bool:
    """Return whether the supervisor before has claimed a job and ended before it forked."""
    booted = processes.now() - time.clock_gettime(time.CLOCK_BOOTTIME)
    claimed_at = jobdir.claimed_at()
    this_boot = claimed_at is not None and claimed_at >= booted
    return this_boot and processes.births.never_forked(jobdir.job_id) and jobdir.pid() is None


def take_back(processes: Processes, bag: int) -> None:
    """Take up the jobs whose leaders the supervisor before had others keep."""
    for some in contents(bag):
        for held, pidfd in some:
            try:
                _take_back(processes, held, pidfd)
            finally:
                os.close(pidfd)


def _take_back(processes: Processes, held: Held, pidfd: int) -> None:
    jobdir = processes.run_dir.job(held.job_id)
    if held.job_id in processes.jobs or jobdir.exit() is not None:
        return
    spec = jobdir.claimed()
    if spec is None or _never_forked(processes, jobdir):
        return
    # A start whose launcher died was given to another one: then the first process was not it.
    if processes.births.of(held.job_id) in (None, held.pid):
        _take_up(processes, jobdir, spec, (held, pidfd))


def _take_up(
    processes: Processes,
    jobdir: JobDir,
    spec: dict[str, Any],
    kept: tuple[Held, int] | None = None,
) -> Process:
    process = Process(jobdir, _complete(spec), pid=jobdir.pid(), kill=jobdir.kill())
    recorded, now = process.pid, processes.now()
    booted = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    if recorded is not None and recorded.boot_id != processes.boot:
        processes.take_lost(process, lost("the machine was restarted", now))
        return process
    noted = processes.births.of(jobdir.job_id)
    leader = _leader(recorded, noted, jobdir.job_id)
    if leader is not None and leader.ppid != os.getpid():
        process.foreign = True
        process.pidfd = _hold(leader)
        leader = None if process.pidfd is None else leader
    if leader is None and kept is not None and has_ended(kept[1]):
        held, pidfd = kept
        process.pid = recorded or Pid(held.pid, 0, processes.boot, held.started_at)
        process.foreign, process.pidfd = True, os.dup(pidfd)
        processes.adopt(process)
        return process
    if leader is None:
        why = "it ended while no supervisor was there to see it"
        why += ", or was never started" if recorded is None and noted is None else ""
        # A power cut takes pid.json, which is not synced to the disk.
        claimed_at = jobdir.claimed_at()
        if recorded is None and claimed_at is not None and claimed_at < booted:
            why = "the machine was restarted"
        processes.take_lost(process, lost(why, now))
        return process
    if recorded is None:
        started_at = booted + leader.start_time / os.sysconf("SC_CLK_TCK")  # proc(5)
        process.pid = Pid(leader.pid, leader.start_time, processes.boot, started_at)
        with logged(process, "cannot record its pid"):
            jobdir.write_pid(process.pid)
    processes.adopt(process)
    return process


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
