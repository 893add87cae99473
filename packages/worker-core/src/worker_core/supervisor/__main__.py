"""`python -m worker_core.supervisor STATE_DIR [--ephemeral]`: start detached, say when ready.

The first process returns 0 once the supervisor accepts connections, 75 (EX_TEMPFAIL) if another
one serves this state directory, and 1 with a message on stderr if it cannot start. The supervisor
lives as long as it has an engine or a job. With --ephemeral it ends all jobs and removes the state
directory when its engine goes, however that ended.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import resource
import shutil
import signal
import socket
import sys
from typing import Any

from worker_core import atomic, jobdir, libc, wire
from worker_core.clock import SystemClock
from worker_core.supervisor import recover
from worker_core.supervisor.cgroup import NO_MOUNT, Cgroups
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.processes import Processes
from worker_core.supervisor.server import Connection, Server
from worker_core.supervisor.spools import Spools

log = logging.getLogger("worker_core.supervisor")

_UPGRADE = "supervisor.jobs"  # the ids of running jobs, from before exec to after it
_BUSY = 75
_PATIENCE = 10.0  # seconds for whoever started us to connect


class Supervisor:
    """Joins the parts: requests in, events out, and the reasons to end."""

    def __init__(self, state_dir: str, listener: socket.socket, lock: int, ephemeral: bool) -> None:
        self.state_dir = state_dir
        self._lock = lock
        self._ephemeral = ephemeral
        self._ending = False
        self.loop = Loop(SystemClock())
        self._listener = listener
        self._groups = Cgroups.probe(state_dir)
        self._server = Server(listener, self.loop, self._handle, self._alone, _able(self._groups))
        self._processes = Processes(
            state_dir,
            self.loop,
            self._groups,
            emit=self._server.broadcast,
            watched=lambda: self._server.watched,
            on_empty=self._alone,
        )
        self._spools = Spools(self._processes, self.loop)
        self.loop.on_signals(
            {
                signal.SIGCHLD: self._processes.reap,
                signal.SIGTERM: self._terminate,
                signal.SIGINT: lambda: None,
                signal.SIGHUP: lambda: None,
            }
        )

    def take_up(self, job_ids: list[str]) -> None:
        """Go on with the jobs that ran before this process executed itself."""
        for job_id in job_ids:
            recover.known(self._processes, job_id)
        self._processes.reap()
        self._spools.wake()

    def run(self) -> None:
        """Serve until there is neither an engine nor a job."""
        self.loop.call_later(_PATIENCE, self._alone)
        self.loop.run()
        if self._groups is not None:
            self._groups.close()
        if self._ephemeral:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _handle(self, message: wire.Message, connection: Connection) -> None:
        match message:
            case {"op": "start", "id": str(job_id), "spec": dict(spec)}:
                self._processes.start(job_id, spec)
                self._spools.wake()
            case {"op": "kill", "id": str(job_id), **options}:
                self._kill(job_id, options)
            case {"op": "signal", "id": str(job_id), "signal": int(signum)}:
                self._processes.signal(job_id, signum)
            case {"op": "query", "ids": list(ids), "token": token}:
                jobs = {each: recover.known(self._processes, each) for each in ids}
                connection.send({"event": "known", "token": token, "jobs": jobs})
                self._spools.wake()
            case {"op": "upgrade"}:
                self._execute_anew()
            case {"op": "shutdown"}:
                self._end_all()
            case _:
                log.warning("unknown request: %s", message.get("op"))

    def _kill(self, job_id: str, options: dict[str, Any]) -> None:
        self._processes.kill(
            job_id,
            reason=options.get("reason"),
            signum=options.get("signal"),
            grace=options.get("grace"),
            now=bool(options.get("now")),
        )

    def _alone(self) -> None:
        """The last engine or the last job has gone."""
        if self._ephemeral and not self._server.watched and not self._ending:
            self._end_all()
        idle = not self._processes.jobs
        if idle and (self._ending or not self._server.watched):
            self.loop.stop()

    def _end_all(self) -> None:
        self._ending = True
        for job_id in list(self._processes.jobs):
            self._processes.kill(job_id, reason="the engine was closed", now=True)
        self._alone()

    def _terminate(self) -> None:
        """SIGTERM: leave as soon as no job needs us; a job's end is worth more than our own."""
        log.info("SIGTERM: ending after %d jobs", len(self._processes.jobs))
        self._ending = True
        self._alone()

    def _execute_anew(self) -> None:
        """Become the supervisor of the installed version; pid, children and lock stay."""
        running = [each for each in self._processes.jobs.values() if each.end is None]
        if len(running) < len(self._processes.jobs):  # an end is being recorded
            self.loop.call_later(0.02, self._execute_anew)
            return
        ids = "\n".join(each.id for each in running).encode()
        atomic.replace(os.path.join(self.state_dir, _UPGRADE), ids, sync=False)
        os.set_inheritable(self._lock, True)
        argv = [sys.executable, "-P", "-m", "worker_core.supervisor", self.state_dir]
        argv += ["--lock", str(self._lock)] + (["--ephemeral"] if self._ephemeral else [])
        os.execv(sys.executable, argv)  # noqa: S606  # ourselves


def _able(groups: Cgroups | None) -> wire.Message:
    if groups is None:
        return {"controllers": [], "cure": NO_MOUNT}
    return {"controllers": sorted(groups.controllers), "cure": groups.cure}


def main() -> int:
    """Start, detach, serve."""
    parser = argparse.ArgumentParser(prog="python -m worker_core.supervisor")
    parser.add_argument("state_dir")
    parser.add_argument("--ephemeral", action="store_true")
    parser.add_argument("--open-files", type=int, help="soft limit that jobs inherit")
    parser.add_argument("--allow-new-privileges", action="store_true")
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lock is not None:
        return _continue(options.state_dir, options.lock, options.ephemeral)
    lock = _take_lock(options.state_dir)
    if lock is None:
        return _BUSY
    if options.open_files is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.open_files, most))
    ready, done = os.pipe()
    if os.fork():
        os.close(done)
        return 0 if os.read(ready, 1) == b"1" else 1
    os.close(ready)
    os.setsid()
    if not options.allow_new_privileges:
        libc.forbid_new_privileges()  # for this process and everything below it, for good
    _detach(options.state_dir)
    supervisor = Supervisor(options.state_dir, _listen(options.state_dir), lock, options.ephemeral)
    os.write(done, b"1")
    os.close(done)
    _keep_log(options.state_dir)
    if wanted := os.environ.get("WORKER_FAULTS"):
        from worker_core.testing import faults  # never loaded but for tests

        faults.install(wanted)
    supervisor.run()
    return 0


def _continue(state_dir: str, lock: int, ephemeral: bool) -> int:
    os.set_inheritable(lock, False)
    _detach(state_dir)
    path = os.path.join(state_dir, _UPGRADE)
    with open(path) as file:
        running = file.read().split()
    supervisor = Supervisor(state_dir, _listen(state_dir), lock, ephemeral)
    supervisor.take_up(running)
    os.unlink(path)
    supervisor.run()
    return 0


def _take_lock(state_dir: str) -> int | None:
    path = os.path.join(state_dir, jobdir.LOCK)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, atomic.PRIVATE_FILE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _detach(state_dir: str) -> None:
    """Leave nothing of who started us: directory, dispositions, mask; orphans come to us."""
    os.chdir("/")
    os.umask(0o077)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    libc.become_subreaper()
    logging.basicConfig(
        filename=os.path.join(state_dir, jobdir.LOG),
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )


def _keep_log(state_dir: str) -> None:
    """From here on, a message of the interpreter itself goes to the log, not to who started us."""
    log_fd = os.open(
        os.path.join(state_dir, jobdir.LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log_fd)


def _listen(state_dir: str) -> socket.socket:
    """Bind the socket through a directory descriptor: a socket's path is at most 107 bytes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{directory}/{jobdir.SOCKET}"
        if os.path.lexists(path):
            os.unlink(path)
        listener.bind(path)
        listener.listen(16)
    finally:
        os.close(directory)
    return listener


if __name__ == "__main__":
    sys.exit(main())
