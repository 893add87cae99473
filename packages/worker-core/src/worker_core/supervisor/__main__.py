"""`python -m worker_core.supervisor STATE_DIR`: start detached, say when ready.

The first process returns 0 once the supervisor accepts connections, 75 (EX_TEMPFAIL) if another
one serves this state directory, and 1 with a message on stderr if it cannot start. The supervisor
lives as long as it has an engine or a job. With --ephemeral it ends all jobs and removes the state
directory when its engine goes, however that ended.

With --foreground it is a service: it neither detaches nor leaves by itself, SIGHUP lets it execute
itself anew after an upgrade, and with --engine ACCOUNT a supervisor of root serves an engine that
runs as that account and owns the state directory (see fsuid.py). Such a supervisor believes
nothing that the engine or a job can write; THREATS.md says what that means, sentence by sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import pwd
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from worker_core import enforcement, wire
from worker_core.clock import SystemClock
from worker_core.disk import files, jobdir
from worker_core.linux import libc, procfs
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.model import encoding
from worker_core.supervisor import cgroup, fsuid, identity, keeper, oom, recover, requests, rundir
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.keeper import Keeper
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.server import Connection, Server

log = logging.getLogger("worker_core.supervisor")

_BUSY = 75
_PATIENCE = 10.0  # seconds for whoever started us to connect
_SLICE = 16  # jobs that one turn of the loop looks up
_MOST_TOLD = 32 << 20  # characters of reasons in one answer
_SETTLE = 10.0  # seconds for which a service refuses to be upgraded again by an engine


class Supervisor:
    """Joins the parts: requests in, events out, and the reasons to end."""

    def __init__(self, options: argparse.Namespace, run_dir: RunDir, lock: int) -> None:
        state_dir = self.state_dir = options.state_dir
        self.run_dir = run_dir
        self._lock = lock
        self._accounts = options.accounts
        self._ephemeral = options.ephemeral
        self._service = options.foreground
        self._ending = False
        self._asked = 0.0  # monotonic time, as the next one: when to execute anew was asked for
        self._pausing = 0.0  # since when it waits to execute itself anew; 0 if it does not
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
        self._began = self.loop.clock.monotonic()
        self._keeper = Keeper(lambda: self._table.jobs)
        self._table = JobTable(
            run_dir,
            self.loop,
            self._groups,
            root_jobs=options.root_jobs,
            emit=self._server.broadcast,
            watched=lambda: self._server.watched,
            on_empty=self._alone,
            keeper=self._keeper,
        )
        self.loop.on_signals(
            {
                signal.SIGCHLD: self._table.reap,
                signal.SIGTERM: self._terminate,
                signal.SIGINT: lambda: None,
                signal.SIGHUP: self._execute_anew if self._service else lambda: None,
            }
        )

    def keep_in(self, store: DescriptorStore) -> None:
        """Take back what systemd has kept, and have it keep what the next supervisor will need."""
        self.take_back(store.stored)
        self._keeper.publish(store)

    def take_back(self, bags: Iterable[int]) -> None:
        """Go on with the jobs whose leaders others have kept; close the bags that they are in."""
        for bag in bags:
            try:
                recover.take_back(self._table, bag)
            except OSError as error:
                log.error("the ends of some jobs may become unknown: %s", error)
            os.close(bag)

    def take_up(self, job_ids: list[str]) -> None:
        """Go on with the jobs that ran before this process executed itself."""
        for job_id in job_ids:
            recover.known(self._table, job_id)
        self._table.reap()

    def run(self) -> None:
        """Serve until there is neither an engine nor a job."""
        self._table.launchers.open()
        self.loop.call_later(_PATIENCE, self._alone)
        self.loop.run()
        self._table.launchers.close()
        if self._groups is not None:
            self._groups.close()
        self.run_dir.close()
        if self._ephemeral:
            import shutil  # slow to import, and not needed before

            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _handle(self, message: wire.Message, connection: Connection) -> None:
        if wrong := requests.fault(message):
            log.warning("refused a request: %s", wrong)
            return
        match message:
            case {"op": "start", "id": job_id, "spec": spec}:
                self._table.start(job_id, spec)
            case {"op": "kill", "id": job_id, **options}:
                self.loop.attempt(lambda: self._kill(job_id, options))
            case {"op": "signal", "id": job_id, "signal": signum}:
                self.loop.attempt(lambda: self._table.signal(job_id, signum))
            case {"op": "query", "ids": ids, "token": token}:
                self.loop.attempt(lambda: self._tell(ids, token, {}, connection))
            case {"op": "kept"}:
                self._exchange(connection)
            case {"op": "upgrade"}:
                self._upgrade()
            case {"op": "shutdown"}:
                self.loop.attempt(self._end_all)

    def _tell(
        self,
        ids: list[str],
        token: int,
        jobs: dict[str, Any],
        connection: Connection,
        told: int = 0,
    ) -> None:
        """Look up some jobs at a time: others end meanwhile, and wait to be reaped.

        `told` counts the characters of what `jobs` holds so far.
        """
        for job_id in ids[:_SLICE]:
            jobs[job_id] = found = recover.known(self._table, job_id)
            told += len(found.get("exit", {}).get("reason") or "")
        if told > _MOST_TOLD:
            log.error("an engine asks for too long an answer; closing its connection")
            connection.close()
        elif len(ids) > _SLICE and connection.is_open:
            connection.pause()
            rest = ids[_SLICE:]
            self.loop.call_later(0, lambda: self._tell(rest, token, jobs, connection, told))
        else:
            self._answer(token, jobs, connection)

    def _answer(self, token: int, jobs: dict[str, Any], connection: Connection) -> None:
        connection.resume()
        for job_id, found in jobs.items():
            if "running" in found and job_id not in self._table.jobs:  # it has ended since
                jobs[job_id] = recover.known(self._table, job_id)
        connection.send({"event": "known", "token": token, "jobs": jobs})

    def _exchange(self, connection: Connection) -> None:
        """Take back what an engine has kept, and give it what it is to keep from now on."""
        self.take_back(connection.take())
        if connection.gives_descriptors:  # else it is of another account, and systemd keeps them
            self.loop.attempt(lambda: self._keeper.give(connection))

    def _kill(self, job_id: str, options: dict[str, Any]) -> None:
        self._table.kill(
            job_id,
            reason=options.get("reason"),
            signum=options.get("signal"),
            grace=options.get("grace"),
        )

    def _alone(self) -> None:
        """The last engine or the last job has gone."""
        if self._ephemeral and not self._server.watched and not self._ending:
            self._end_all()
        idle = not self._table.jobs
        if idle and (self._ending or not (self._server.watched or self._service)):
            self.loop.stop()

    def _end_all(self) -> None:
        self._ending = not self._service  # which the administrator ends, not an engine
        for job_id in list(self._table.jobs):
            self._table.kill(job_id, reason="the engine was closed", signum=signal.SIGKILL)
        self._alone()

    def _terminate(self) -> None:
        """SIGTERM: leave as soon as no job needs us; a job's end is worth more than our own."""
        log.info("SIGTERM: ending after %d jobs", len(self._table.jobs))
        self._ending = True
        self._alone()

    def _upgrade(self) -> None:
        """An engine of a later release asks for it; it could ask without end."""
        if self._service and self.loop.clock.monotonic() - self._began < _SETTLE:
            log.warning("refused a request: this program has only just been executed")
        else:
            self._execute_anew()

    def _execute_anew(self) -> None:
        """Become the supervisor of the installed version; pid, children and lock stay."""
        try:
            with fsuid.own():
                identity.names_in(self._accounts)
        except ValueError as error:
            log.error("cannot reload: %s; going on as before", error)
            return
        now = self.loop.clock.monotonic()
        self._asked = self._asked or now
        if self._table.graced(now - self._asked):  # meanwhile others are started as usual
            self.loop.call_later(0.1, self._execute_anew)
            return
        self._pausing = self._pausing or now
        if not self._table.pause(now - self._pausing):
            self.loop.call_later(0.02, self._execute_anew)
            return
        self._table.record_all()
        self.run_dir.note_running(list(self._table.jobs))
        os.set_inheritable(self._lock, True)
        self._keeper.pass_on()
        oom.pass_on()
        argv = [sys.executable, "-P", "-m", "worker_core.supervisor", *sys.argv[1:]]
        argv += [] if "--lock" in argv else ["--lock", str(self._lock)]
        with fsuid.own():  # the interpreter need not be readable for the engine
            os.execv(sys.executable, argv)  # noqa: S606  # ourselves


def _able(groups: Cgroups | None) -> wire.Message:
    controllers = [] if groups is None else sorted(groups.controllers)
    cure, most = cgroup.cure(groups), enforcement.most_files()
    return {"controllers": controllers, "cure": cure, "open_files": most}


def main() -> int:
    """Start, detach, serve."""
    encoding.use_utf8()
    options = _options()
    if fault := procfs.proc_fault():
        sys.stderr.write(f"cannot serve {options.state_dir}: {fault}\n")
        return 1
    try:
        run_dir = _prepare(options)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot serve {options.state_dir}: {error}\n")
        return 1
    lock = options.lock
    if lock is not None:
        os.set_inheritable(lock, False)
        return _serve(options, run_dir, lock, lambda: None)
    lock = _take_lock(run_dir)
    if lock is None:
        return _BUSY
    if options.open_files is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.open_files, most))
    if not options.allow_new_privileges:
        libc.forbid_new_privileges()  # for this process and everything below it, for good
    if options.foreground:
        return _serve(options, run_dir, lock, lambda: None)
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

    return _serve(options, run_dir, lock, say_ready)


def _prepare(options: argparse.Namespace) -> RunDir:
    """Take the rights of the engine on files, and learn what only root can say."""
    engine = options.engine
    if engine is None:
        return RunDir(options.state_dir)
    names = identity.names_in(options.accounts)
    identity.allow_only([engine.pw_name, *names])
    # With these two a job can become somebody else, and all of it is to be ended.
    anybody = options.allow_new_privileges or options.root_jobs
    fsuid.end_only(None if anybody else {engine.pw_uid} | identity.uids(names))
    run_dir = options.run_dir or rundir.default(options.state_dir)
    fsuid.give_up(engine)
    return RunDir(options.state_dir, run_dir)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker_core.supervisor")
    parser.add_argument("state_dir")
    parser.add_argument("--ephemeral", action="store_true", help="end with the engine")
    parser.add_argument("--foreground", action="store_true", help="be a service")
    parser.add_argument("--engine", type=_account, help="the account that the engine runs as")
    parser.add_argument(
        "--accounts",
        default="",
        metavar="NAME[,NAME...]|/FILE",
        help="the other accounts that jobs may run as, or a file of root's with one on each line",
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="where root keeps what it must know of running jobs (with --engine)",
    )
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


def _serve(
    options: argparse.Namespace, run_dir: RunDir, lock: int, say_ready: Callable[[], None]
) -> int:
    _detach(options.state_dir)
    oom.protect()
    supervisor = Supervisor(options, run_dir, lock)
    supervisor.take_back(keeper.passed_on())
    if options.foreground:
        supervisor.keep_in(DescriptorStore(DescriptorStore.passed()))
    if options.lock is not None:
        supervisor.take_up(run_dir.take_running())
    supervisor.take_up(run_dir.job_ids())
    say_ready()
    if wanted := os.environ.get("WORKER_FAULTS"):
        from worker_core.testing import faults  # never loaded but for tests

        faults.install(wanted)
    supervisor.run()
    return 0


def _take_lock(run_dir: RunDir) -> int | None:
    with fsuid.own():
        lock = _locked(os.path.join(run_dir.path, jobdir.LOCK))
    if lock is not None and run_dir.path != run_dir.state_dir:
        # For a supervisor that an engine starts by itself. A job could hold this one.
        with contextlib.suppress(OSError):
            if _locked(os.path.join(run_dir.state_dir, jobdir.LOCK)) is None:
                log.warning("somebody else holds %s in %s", jobdir.LOCK, run_dir.state_dir)
    return lock


def _locked(path: str) -> int | None:
    lock = files.open_regular(path, os.O_RDWR | os.O_CREAT)
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
        stream=_log_file(state_dir),
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )


def _log_file(state_dir: str) -> TextIO:
    try:
        log_fd = _open_log(state_dir)
    except OSError as error:
        sys.stderr.write(f"cannot write {jobdir.LOG} in {state_dir}: {error}\n")
        return sys.stderr
    return open(log_fd, "a", encoding="utf-8", errors="backslashreplace")


def _open_log(state_dir: str) -> int:
    path = os.path.join(state_dir, jobdir.LOG)
    return files.open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _keep_log(state_dir: str) -> None:
    """From here on, a message of the interpreter itself goes to the log, not to who started us."""
    log_fd = _open_log(state_dir)
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
        _clear(path)
        listener.bind(path)
        listener.listen(16)
    finally:
        os.close(directory)
    return listener


def _clear(path: str) -> None:
    """Make room for the socket; a directory in its place, which an engine can make, is renamed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        os.rename(path, f"{path}.{os.getpid()}.old")


if __name__ == "__main__":
    sys.exit(main())
