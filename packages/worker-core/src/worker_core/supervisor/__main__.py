"""`python -m worker_core.supervisor STATE_DIR`: start detached, say when ready.

The first process returns 0 once the supervisor accepts connections, 75 (EX_TEMPFAIL) if another
one serves this state directory, and 1 with a message on stderr if it cannot start. The supervisor
lives as long as it has an engine or a job. With --ephemeral it ends all jobs and removes the state
directory when its engine goes, however that ended.

With --foreground it is a service: it neither detaches nor leaves by itself, SIGHUP lets it execute
itself anew after an upgrade, and with --engine ACCOUNT a supervisor of root serves an engine that
runs as that account and owns the state directory (see rights.py).
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import pwd
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from worker_core import atomic, encoding, jobdir, libc, limits, wire
from worker_core.clock import SystemClock
from worker_core.supervisor import cgroup, recover, rights
from worker_core.supervisor.cgroup import Cgroups
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

    def __init__(self, options: argparse.Namespace, lock: int) -> None:
        state_dir = self.state_dir = options.state_dir
        self._lock = lock
        self._ephemeral = options.ephemeral
        self._service = options.foreground
        self._ending = False
        self.loop = Loop(SystemClock())
        self._groups = Cgroups.probe(state_dir, self.loop.clock)
        self._server = Server(
            _listen(state_dir),
            self.loop,
            self._handle,
            on_alone=self._alone,
            able=_able(self._groups),
            engine_uid=os.geteuid() if options.engine is None else options.engine.pw_uid,
        )
        self._processes = Processes(
            state_dir,
            self.loop,
            self._groups,
            root_jobs=options.root_jobs,
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
                signal.SIGHUP: self._execute_anew if self._service else lambda: None,
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
            import shutil  # slow to import, and not needed before

            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _handle(self, message: wire.Message, connection: Connection) -> None:
        match message:
            case {"op": "start", "id": str(job_id), "spec": dict(spec)}:
                self._processes.start(job_id, spec)
                self._spools.wake()
            case {"op": "kill", "id": str(job_id), **options}:
                self.loop.attempt(lambda: self._kill(job_id, options))
            case {"op": "signal", "id": str(job_id), "signal": int(signum)}:
                self.loop.attempt(lambda: self._processes.signal(job_id, signum))
            case {"op": "query", "ids": list(ids), "token": token}:
                self.loop.attempt(lambda: self._tell(ids, token, connection))
            case {"op": "upgrade"}:
                self._execute_anew()
            case {"op": "shutdown"}:
                self.loop.attempt(self._end_all)
            case _:
                log.warning("unknown request: %s", message.get("op"))

    def _tell(self, ids: list[str], token: int, connection: Connection) -> None:
        jobs = {each: recover.known(self._processes, each) for each in ids}
        connection.send({"event": "known", "token": token, "jobs": jobs})
        self._spools.wake()

    def _kill(self, job_id: str, options: dict[str, Any]) -> None:
        self._processes.kill(
            job_id,
            reason=options.get("reason"),
            signum=options.get("signal"),
            grace=options.get("grace"),
        )

    def _alone(self) -> None:
        """The last engine or the last job has gone."""
        if self._ephemeral and not self._server.watched and not self._ending:
            self._end_all()
        idle = not self._processes.jobs
        if idle and (self._ending or not (self._server.watched or self._service)):
            self.loop.stop()

    def _end_all(self) -> None:
        self._ending = True
        for job_id in list(self._processes.jobs):
            self._processes.kill(job_id, reason="the engine was closed", signum=signal.SIGKILL)
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
        self._processes.record_all()
        ids = "\n".join(each.id for each in running).encode()
        atomic.replace(os.path.join(self.state_dir, _UPGRADE), ids, sync=False)
        os.set_inheritable(self._lock, True)
        argv = [sys.executable, "-P", "-m", "worker_core.supervisor", *sys.argv[1:]]
        argv += [] if "--lock" in argv else ["--lock", str(self._lock)]
        with rights.own():  # the interpreter need not be readable for the engine
            os.execv(sys.executable, argv)  # noqa: S606  # ourselves


def _able(groups: Cgroups | None) -> wire.Message:
    controllers = [] if groups is None else sorted(groups.controllers)
    cure, most = cgroup.cure(groups), limits.most_files()
    return {"controllers": controllers, "cure": cure, "open_files": most}


def main() -> int:
    """Start, detach, serve."""
    encoding.use_utf8()
    options = _options()
    if options.engine is not None:
        rights.give_up(options.engine)
    lock = options.lock
    if lock is not None:
        os.set_inheritable(lock, False)
        return _serve(options, lock, lambda: None)
    lock = _take_lock(options.state_dir)
    if lock is None:
        return _BUSY
    if options.open_files is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.open_files, most))
    if not options.allow_new_privileges:
        libc.forbid_new_privileges()  # for this process and everything below it, for good
    if options.foreground:
        return _serve(options, lock, lambda: None)
    ready, done = os.pipe()
    if os.fork():
        os.close(done)
        return 0 if os.read(ready, 1) == b"1" else 1
    os.close(ready)
    os.setsid()

    def say_ready() -> None:
        os.write(done, b"1")
        os.close(done)
        _keep_log(options.state_dir)

    return _serve(options, lock, say_ready)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker_core.supervisor")
    parser.add_argument("state_dir")
    parser.add_argument("--ephemeral", action="store_true", help="end with the engine")
    parser.add_argument("--foreground", action="store_true", help="be a service")
    parser.add_argument("--engine", type=_account, help="the account that the engine runs as")
    parser.add_argument("--root-jobs", action="store_true", help="let that engine run jobs as root")
    parser.add_argument("--open-files", type=int, help="soft limit that jobs inherit")
    parser.add_argument("--allow-new-privileges", action="store_true", help="let jobs use sudo")
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no account {name}") from None


def _serve(options: argparse.Namespace, lock: int, say_ready: Callable[[], None]) -> int:
    _detach(options.state_dir)
    supervisor = Supervisor(options, lock)
    if options.lock is not None:
        path = os.path.join(options.state_dir, _UPGRADE)
        with open(path) as file:
            supervisor.take_up(file.read().split())
        os.unlink(path)
    say_ready()
    if wanted := os.environ.get("WORKER_FAULTS"):
        from worker_core.testing import faults  # never loaded but for tests

        faults.install(wanted)
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
    libc.reset_hidden_signals()
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
