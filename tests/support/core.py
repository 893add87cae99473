"""What the tests of the engine share."""

import os
import uuid

from worker_core import JobSpec
from worker_core.linux import procfs
from worker_core.supervisor import tree

from support.waiting import wait_until

LONG = 600  # seconds that no test lasts


def marked(job_id):
    """Return the pids of the living processes that carry a job's mark.

    One that is on its way out, in the kernel, may still be visible for a moment.
    """
    wanted = tree.mark(job_id)
    return [
        pid
        for pid in procfs.pids()
        if procfs.realtime_limit(pid) == wanted and (stat := procfs.stat(pid)) and not stat.ended
    ]


class Sleepers:
    """`sleep` processes that only one test can have started, by their argument."""

    def __init__(self):
        self.seconds = f"{LONG}.{uuid.uuid4().int % 10**12:012}"

    def __str__(self):
        return f"sleep {self.seconds}"

    def count(self):
        """Return how many of them live."""
        wanted = f"sleep\0{self.seconds}\0".encode()
        return sum(_command_line(pid) == wanted for pid in procfs.pids())

    def wait(self, count):
        """Wait until so many of them live."""
        wait_until(lambda: self.count() == count, message=f"{count} times {self}")


def shell(script, **spec):
    """Return the spec of a job that runs a script of /bin/sh."""
    return JobSpec("sh", ["-c", script], **spec)


def waiting_for(path):
    """Return a script that says "ready" and goes on when a file appears."""
    return f"echo ready; until [ -e {path} ]; do sleep 0.01; done"


def run(engine, spec, owner="me"):
    """Run a job to its end."""
    job = engine.wait(engine.submit(spec, owner).id, 30)
    assert job.state.final, job
    return job


def begin(engine, spec, owner="me"):
    """Start a job and wait until it has written "ready" and its start is recorded."""
    job = engine.submit(spec, owner)
    wait_until(lambda: b"ready" in engine.read_output(job.id), message=f"{spec} to be ready")
    wait_until(lambda: engine.get(job.id).started_at, message=f"the start of {spec}")
    return engine.get(job.id)


def supervisor_pid(state_dir):
    """Return the pid of the supervisor of a state directory, None if there is none."""
    wanted = [b"-m", b"worker_core.supervisor", os.fsencode(state_dir)]
    for pid in procfs.pids():
        words = _command_line(pid).split(b"\0")
        stat = procfs.stat(pid)
        if words[2:5] == wanted and stat is not None and stat.state != "Z" and not _launches(pid):
            return pid
    return None


def launcher_pids(state_dir):
    """Return the pids of the launchers of a state directory's supervisor."""
    return [pid for pid in procfs.children(supervisor_pid(state_dir)) if _launches(pid)]


def _launches(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read() == "worker-launcher\n"
    except OSError:
        return False


def wait_gone(pid):
    """Wait until a process is gone or a zombie."""
    wait_until(
        lambda: (stat := procfs.stat(pid)) is None or stat.state == "Z", message=f"end of {pid}"
    )


def _command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
