"""The directory with the files of a supervisor that no job may change.

It is the state directory, unless root's supervisor serves an engine of another account. That
engine, and every job that runs under its account, can write in the state directory. So root's
supervisor keeps these files in a directory of its own, until the machine is restarted:

    supervisor.lock     held by the supervisor that runs
    supervisor.jobs     the ids of running jobs, while an upgrade replaces its program
    supervisor.births   the leader of each job (start_log.py)
    jobs/<id>/          pid.json and kill.json of each running job (jobdir.py)
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from worker_core.disk import files, jobdir
from worker_core.disk.jobdir import Exit, JobDir, Kill, Pid
from worker_core.linux import libc, procfs
from worker_core.supervisor import fsuid, requests

log = logging.getLogger(__name__)

_DEFAULT = "/run/worker-supervisor"
_UPGRADE = "supervisor.jobs"
_MOST_IDS = 64 << 20  # bytes of that file


class RunDir:
    """The directory of a supervisor, and from it the directories of jobs."""

    def __init__(self, state_dir: str, path: str | None = None) -> None:
        """With `path`, keep these files in that directory, which is made if needed.

        Raises OSError, or ValueError if another account than root could write there.
        """
        self.state_dir = state_dir
        self.path = state_dir if path is None else path
        self._apart = path is not None
        self._state_fd = -1
        if path is not None:
            with fsuid.own():
                _make_own(path)
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            self._state_fd = os.open(state_dir, flags)

    def fileno(self) -> int:
        """Return the descriptor that `job` uses, -1 if it uses none."""
        return self._state_fd

    def job(self, job_id: str) -> JobDir:
        """Return the directory of a job."""
        if not self._apart:
            return JobDir(self.state_dir, job_id)
        return _GuardedJobDir(self.state_dir, job_id, self.path, self._state_fd)

    def job_ids(self) -> list[str]:
        """Return the ids of the jobs that the previous supervisor left running.

        They are known only where no other account could have written them.
        """
        if not self._apart:
            return []
        with fsuid.own():
            return list(filter(jobdir.is_id, os.listdir(f"{self.path}/{jobdir.JOBS}")))

    def note_running(self, job_ids: list[str]) -> None:
        """Note the running jobs for the next program of this process."""
        with fsuid.own():
            files.replace(f"{self.path}/{_UPGRADE}", "\n".join(job_ids).encode(), sync=False)

    def take_running(self) -> list[str]:
        """Return the jobs that `note_running` has noted, and remove the note."""
        with fsuid.own():
            found = _take(f"{self.path}/{_UPGRADE}")
        if found is None:  # an earlier release noted them in the state directory
            found = _take(f"{self.state_dir}/{_UPGRADE}")
        return list(filter(jobdir.is_id, (found or "").split()))

    def close(self) -> None:
        """Remove the directory if it holds nothing that the next supervisor needs."""
        if not self._apart:
            return
        with fsuid.own(), contextlib.suppress(OSError):
            os.rmdir(f"{self.path}/{jobdir.JOBS}")  # fails while a job is left
            for name in os.listdir(self.path):
                os.unlink(f"{self.path}/{name}")
            os.rmdir(self.path)


class _GuardedJobDir(JobDir):
    """The directory of a job in which an engine of another account can write."""

    def __init__(self, state_dir: str, job_id: str, own: str, state_fd: int) -> None:
        super().__init__(state_dir, job_id)
        self._own = JobDir(own, job_id)
        self._state_fd = state_fd

    def opened(self) -> AbstractContextManager[str]:
        return self._opened(f"{jobdir.JOBS}/{self.job_id}")

    def make(self) -> None:
        with self._opened(jobdir.JOBS) as path:
            jobdir.make_private_dir(f"{path}/{self.job_id}")

    def claim(self, spec: dict[str, object]) -> bool:
        try:
            return super().claim(spec)
        except OSError as error:
            if not _is_planted(error):
                raise
            log.error(
                "job %s: cannot write its claim, the engine blocks it: %s", self.job_id, error
            )
            return False

    def write_exit(self, end: Exit, *, sync: bool) -> None:
        try:
            super().write_exit(end, sync=sync)
        except OSError as error:
            if not _is_planted(error):
                raise
            # Only the engine reads this file, and it gets the event of the end in any case.
            log.error(
                "job %s: its end is not recorded, the engine blocks it: %s", self.job_id, error
            )

    def claimed(self) -> dict[str, object] | None:
        found = super().claimed()
        return found if not found or requests.sound_spec(found) else {}

    def write_pid(self, pid: Pid) -> None:
        with fsuid.own():
            jobdir.make_private_dir(self._own.path)
            self._own.write_pid(pid)
        with contextlib.suppress(OSError):  # the engine's copy, for the usage of the job
            super().write_pid(pid)

    def pid(self) -> Pid | None:
        with fsuid.own():
            return self._own.pid()

    def write_kill(self, kill: Kill) -> None:
        with fsuid.own():
            jobdir.make_private_dir(self._own.path)
            self._own.write_kill(kill)

    def kill(self) -> Kill | None:
        with fsuid.own():
            return self._own.kill()

    def exit(self) -> Exit | None:
        return None if self._lives() else super().exit()

    def forget(self) -> None:
        with fsuid.own(), contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._own.path):
                os.unlink(self._own.file(name))
            os.rmdir(self._own.path)

    def _lives(self) -> bool:
        """Return whether the leader that root has noted still runs, whatever other files say."""
        pid = self.pid()
        if pid is None or pid.boot_id != jobdir.boot_id():
            return False
        now = procfs.stat(pid.pid)
        return now is not None and now.start_time == pid.start_time and not now.ended

    @contextmanager
    def _opened(self, below: str) -> Iterator[str]:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        fd = libc.open_beneath(self._state_fd, below, flags)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)


def _is_planted(error: OSError) -> bool:
    """Return whether an error is caused by a file of the engine, so that another try is useless."""
    return error.errno in jobdir.NOT_OURS - {errno.ENOENT}


def default(state_dir: str) -> str:
    """Return root's directory for a state directory: where the unit says, or in /run."""
    base = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or _DEFAULT
    of = os.stat(state_dir)
    return f"{base}/{of.st_dev:x}-{of.st_ino:x}"


def _make_own(path: str) -> None:
    os.makedirs(path, files.PRIVATE_DIR, exist_ok=True)
    refuse_writable(path)
    jobdir.make_private_dir(f"{path}/{jobdir.JOBS}")


def refuse_writable(path: str) -> None:
    """Raise ValueError if an account other than root and our own could change `path`."""
    for each in _and_parents(os.path.abspath(path)):
        found = os.lstat(each)
        sticky = each != path and found.st_mode & stat.S_ISVTX
        if stat.S_ISLNK(found.st_mode):
            raise ValueError(f"{each} is a symbolic link; name its target")
        if found.st_uid not in (0, os.geteuid()) or (found.st_mode & 0o022 and not sticky):
            raise ValueError(
                f"accounts other than root can write in {each}; choose another directory"
            )


def _and_parents(path: str) -> Iterator[str]:
    while True:
        yield path
        if path == "/":
            return
        path = os.path.dirname(path)


def _take(path: str) -> str | None:
    try:
        found = files.read_regular(path, _MOST_IDS).decode("ascii", "replace")
    except (OSError, ValueError):
        return None
    os.unlink(path)
    return found
