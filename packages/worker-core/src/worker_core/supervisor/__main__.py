"""`python -m worker_core.supervisor STATE_DIR`: start detached, and return once it serves.

The first process returns 0 once the supervisor accepts connections, 75 (EX_TEMPFAIL) if another
supervisor serves this state directory, and 1 with a message on stderr if it cannot start. The
supervisor lives as long as it has an engine or a job. With --ephemeral it kills all jobs and
removes the state directory when its engine has gone, for whatever reason.

With --foreground it is a service: it neither detaches nor ends by itself, and after an upgrade a
SIGHUP makes it execute the new program. With --engine ACCOUNT, root's supervisor serves an engine
that runs as that account and owns the state directory (fsuid.py). Such a supervisor trusts nothing
that the engine or a job can write. THREATS.md lists what follows from this.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Callable

from worker_core.linux import libc, procfs
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.model import encoding
from worker_core.supervisor import detach, fsuid, identity, keeper, oom, options, rundir
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.supervisor import Supervisor

_BUSY = 75


def main() -> int:
    """Start, detach, serve."""
    encoding.use_utf8()
    given = options.parse()
    if fault := procfs.proc_fault():
        sys.stderr.write(f"cannot serve {given.state_dir}: {fault}\n")
        return 1
    try:
        run_dir = _prepare(given)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot serve {given.state_dir}: {error}\n")
        return 1
    lock = given.lock
    if lock is not None:  # this process executed itself
        os.set_inheritable(lock, False)
        return _serve(given, run_dir, lock, lambda: None)
    lock = detach.take_lock(run_dir)
    if lock is None:
        return _BUSY
    if given.open_files is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (given.open_files, most))
    if not given.allow_new_privileges:
        libc.forbid_new_privileges()  # for this process and all its descendants, for good
    if given.foreground:
        return _serve(given, run_dir, lock, lambda: None)
    ready, done = os.pipe()
    if os.fork():
        os.close(done)
        return 0 if os.read(ready, 1) == b"1" else 1
    os.close(ready)
    os.setsid()

    def report_ready() -> None:
        os.write(done, b"1")
        os.close(done)
        detach.redirect_output(given.state_dir)

    return _serve(given, run_dir, lock, report_ready)


def _prepare(given: argparse.Namespace) -> RunDir:
    """Take on the engine's rights on files; before that, look up what only root can read."""
    engine = given.engine
    if engine is None:
        return RunDir(given.state_dir)
    names = identity.names_in(given.accounts)
    identity.allow_only([engine.pw_name, *names])
    # With these two options a job can become another account, and its tree is to be killed anyway.
    anybody = given.allow_new_privileges or given.root_jobs
    fsuid.end_only(None if anybody else {engine.pw_uid} | identity.uids(names))
    run_dir = given.run_dir or rundir.default(given.state_dir)
    fsuid.give_up(engine)
    return RunDir(given.state_dir, run_dir)


def _serve(
    given: argparse.Namespace, run_dir: RunDir, lock: int, report_ready: Callable[[], None]
) -> int:
    detach.detach(given.state_dir)
    oom.protect()
    supervisor = Supervisor(given, run_dir, lock)
    supervisor.take_back(keeper.passed_on())
    if given.foreground:
        supervisor.keep_in(DescriptorStore(DescriptorStore.passed()))
    if given.lock is not None:
        supervisor.take_up(run_dir.take_running())
    supervisor.take_up(run_dir.job_ids())
    report_ready()
    if wanted := os.environ.get("WORKER_FAULTS"):
        from worker_core.testing import faults  # loaded only by tests

        faults.install(wanted)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
