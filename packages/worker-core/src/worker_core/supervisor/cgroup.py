"""A control group for each job where a writable cgroup2 mount exists, also on hybrid hosts.

The group is needed for the end of a job: `cgroup.kill` kills all its processes in one step, even if
they fork fast, and one read of `cgroup.events` shows whether any is left. If controllers are
delegated to the supervisor, the group also limits a job and counts what it uses. Without such a
mount everything except limits works with the mark alone (tree.py).

A job is in its group before it executes its program. There are two ways to get there:

* The launcher enters the job's group, spawns the job, and goes back. A move costs 20 microseconds,
  but the kernel lets it wait for 5 to 15 ms if nothing has been moved for 20 ms. A group with
  limits is never entered: its limits would hold for the launcher as well.
* The child is forked into the group (clone3(2)). That never waits, but a fork of Python costs five
  times as much as a spawn. Where clone3 is filtered out the child enters the group by itself.

A launcher that starts few jobs forks them into the group. One that starts many enters the group.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from worker_core.clock import Clock
from worker_core.disk import files
from worker_core.linux import libc, procfs, usage
from worker_core.supervisor import fsuid

log = logging.getLogger(__name__)

_WANTED = ("cpu", "memory", "pids", "io")
_LEAF = "worker-main"  # the unit's DelegateSubgroup=, where the service and the supervisor live
# A group that is entered to find out whether that is possible. The group of all jobs cannot be used
# for that: no process may enter it after an earlier supervisor has handed controllers down.
_TRIAL = "worker-trial"
_DELEGATION = (
    "user.delegate",
    "trusted.delegate",
)  # the marks of systemd, systemd.resource-control(5)

# A launcher starts many jobs if it has started _BURST jobs within _BURST_SECONDS. With a higher
# number, launchers that share the work forked too often.
_BURST = 2
_BURST_SECONDS = 0.05

_MOST_GROUPS = 100  # below one job, that are asked for their processes
_LEAF_LINKS = 2  # of a directory without directories

NO_MOUNT = "mount cgroup2 (boot with systemd.unified_cgroup_hierarchy=1)"
NOT_OURS = "let the supervisor make control groups: run it in a systemd unit with Delegate=yes"
NO_CONTROLLERS = (
    "the cgroup2 mount of this machine has no controllers: boot with "
    "systemd.unified_cgroup_hierarchy=1"
)
NOT_DELEGATED = (
    "run the supervisor in a systemd unit with Delegate=yes and "
    f"DelegateSubgroup={_LEAF} (systemd 254 or later)"
)


@dataclass(frozen=True)
class CgroupEntry:
    """How a child gets into a group: by `fork`, or by `enter`, which it calls first of all."""

    fork: Callable[[], int] = lambda: os.fork()  # noqa: PLW0108  # a test may replace os.fork
    enter: Callable[[], None] = lambda: None


class Cgroups:
    """The groups of one supervisor's jobs, below the group that the supervisor was started in."""

    def __init__(self, base: str, home: str, clock: Clock) -> None:
        self._clock = clock
        self._starts: deque[float] = deque(maxlen=_BURST)  # monotonic times
        self._forks_into = False  # whether a child can be forked into a group
        self._base = base
        self._home = home  # the group that this process belongs in
        self._home_procs: int | None = None  # the descriptor of its cgroup.procs
        self._away = False  # whether this process is in the group of a job
        self.controllers: frozenset[str] = frozenset()
        self.cure = NOT_DELEGATED
        """How to get the controllers that are missing."""

    @classmethod
    def probe(cls, state_dir: str, clock: Clock) -> Cgroups | None:
        """Return the groups for a state directory, None where they cannot be used."""
        mount, home = procfs.cgroup2_mount(), procfs.cgroup(os.getpid())
        if mount is None or home is None or os.environ.get("WORKER_CGROUPS") == "off":
            log.info("no cgroup2 mount is used: jobs are ended by mark and /proc walks")
            return None
        top = os.path.dirname(home) if os.path.basename(home) == _LEAF else home
        of = os.stat(state_dir)
        base = f"{top}/worker-{of.st_dev:x}-{of.st_ino:x}"
        groups = cls(base, home, clock)
        try:
            _make(base)
            if not os.path.exists(f"{base}/cgroup.kill"):
                raise OSError("this kernel has no cgroup.kill (Linux 5.14)")
            groups._try(f"{base}/{_TRIAL}")
        except OSError as error:
            log.info("cgroup2 at %s cannot be used: %s", home, error)
            groups.close()
            return None
        groups._take_controllers(mount, top)
        log.info("cgroup2 at %s with controllers: %s", base, " ".join(groups.controllers) or "none")
        return groups

    def path(self, job_id: str) -> str:
        """Return the directory of a job's group."""
        return f"{self._base}/{job_id}"

    def fork_is_faster(self) -> bool:
        """Return whether a fork is now the faster way to start a job. To be called at each start
        that can be made in both ways."""
        now = self._clock.monotonic()
        many = len(self._starts) == _BURST and now - self._starts[0] < _BURST_SECONDS
        self._starts.append(now)
        return self._forks_into and not many

    def enter(self, job_id: str) -> None:
        """Move this process into the job's group; if that fails the job gets no group.

        Raises OSError (EAGAIN) if this process cannot leave the group of an earlier job: a job
        started there would be killed together with that one.
        """
        self._require_home()
        try:
            _make(self.path(job_id))
            _enter(self.path(job_id))
        except OSError as error:
            _warn(job_id, error)
        self._away = True

    def leave(self) -> None:
        """Move this process back out of the group that it has entered."""
        if not self._away:
            return
        try:
            with fsuid.own():
                if self._home_procs is None:
                    self._home_procs = os.open(_procs(self._home), os.O_WRONLY | os.O_CLOEXEC)
                os.write(self._home_procs, b"0")
            self._away = False
        except OSError as error:
            log.error("cannot leave a job's group: %s", error)

    def make(self, job_id: str, limits: Collection[tuple[str, str]]) -> CgroupEntry:
        """Make the job's group with `limits`, files and their contents; return how a child gets
        into it.

        Raises OSError if that fails; without `limits` the job then gets no group. Raises EAGAIN as
        `enter` does.
        """
        self._require_home()
        path = self.path(job_id)

        def enter() -> None:
            with _tolerated(job_id, unless=bool(limits)):
                _enter(path)

        made = False
        with _tolerated(job_id, unless=bool(limits)):
            _make(path)
            for name, value in limits:
                self._limit(job_id, name, value)
            made = True
        if made and self._forks_into:
            return CgroupEntry(lambda: _fork_into(path))
        return CgroupEntry(enter=enter)

    def emptied(self, job_id: str) -> bool:
        """Return whether no process is in the job's group or below it, and then remove the group.

        If the job made groups below its own, all of them stay until `remove`.
        """
        try:
            with fsuid.own():
                os.rmdir(self.path(job_id))  # as quick as a question, and nearly always possible
        except FileNotFoundError:
            return True
        except OSError:
            pass
        else:
            return True
        return self.read(job_id, "cgroup.events").get("populated") != 1

    def read(self, job_id: str, name: str) -> dict[str, int]:
        """Return a "key value" file of the job's group, {} if there is none."""
        try:
            found = files.read(f"{self.path(job_id)}/{name}").decode()
        except OSError:
            return {}
        pairs = [line.split() for line in found.splitlines()]
        return {pair[0]: int(pair[-1]) for pair in pairs if pair and pair[-1].isdecimal()}

    def usage(self, job_id: str, *, pid_namespace: bool) -> dict[str, Any]:
        """Return what the controllers counted of the job's whole tree, by the names of Exit."""
        return usage.counted(self.path(job_id), self.controllers, pid_namespace=pid_namespace)

    def members(self, job_id: str) -> list[int] | None:
        """Return the pids in the job's group and below it; None if the kernel does not list them,
        or if the job has made so many groups that reading them would take long."""
        found: list[int] = []
        ahead = [self.path(job_id)]
        try:
            for _ in range(_MOST_GROUPS):
                group = ahead.pop()
                found += map(int, files.read(f"{group}/cgroup.procs").split())
                if os.stat(group).st_nlink > _LEAF_LINKS:
                    ahead += (each.path for each in os.scandir(group) if each.is_dir())
                if not ahead:
                    return [pid for pid in found if pid != os.getpid()]
        except OSError:
            pass
        return None

    def kill(self, job_id: str) -> None:
        """Send SIGKILL to every process in the job's group."""
        with contextlib.suppress(OSError):
            _write(f"{self.path(job_id)}/cgroup.kill", "1")

    def remove(self, job_id: str) -> None:
        """Remove the job's group, which is empty, and the groups that the job made below it.

        Some may stay: a job can nest groups so deep that no path is long enough to name them.
        """
        try:
            with fsuid.own():
                _remove(self.path(job_id))
        except (OSError, RecursionError) as error:
            log.warning("job %s: its control group stays: %s", job_id, type(error).__name__)

    def close(self) -> None:
        """Remove the group of all jobs, if no job is left."""
        with fsuid.own(), contextlib.suppress(OSError):
            os.rmdir(self._base)

    def _try(self, group: str) -> None:
        """Raise OSError unless this process can enter a group like that of a job and come back."""
        _make(group)
        try:
            _enter(group)
            _enter(self._home)
            self._forks_into = _can_fork_into(group)
        finally:
            with fsuid.own():
                _remove(group)

    def _limit(self, job_id: str, name: str, value: str) -> None:
        try:
            _write(f"{self.path(job_id)}/{name}", value)
        except FileNotFoundError:
            if name != "memory.swap.max":  # without swap accounting there is no swap either
                raise

    def _require_home(self) -> None:
        self.leave()
        if self._away:
            raise OSError(errno.EAGAIN, "cannot leave the group of an earlier job")

    def _take_controllers(self, mount: str, top: str) -> None:
        """Hand the controllers that are delegated to us down to the groups of jobs."""
        available = set(_words(f"{top}/cgroup.controllers")) & set(_WANTED)
        if not available:
            everywhere = set(_words(f"{mount}/cgroup.controllers")) & set(_WANTED)
            self.cure = NOT_DELEGATED if everywhere else NO_CONTROLLERS
            return
        # A group that hands controllers down must not hold a process. If we moved out of the unit's
        # own group, systemd could not start the service again while a job runs, because it starts
        # processes there ("Device or resource busy"). So the unit has to name a group below for
        # its processes.
        if top != mount and (self._home == top or not _delegated(top)):
            return
        try:
            for group in (top, self._base):
                _write(f"{group}/cgroup.subtree_control", " ".join(f"+{c}" for c in available))
        except OSError as error:
            log.warning("cannot use the controllers of %s: %s", top, error)
            self.cure = f"{NOT_DELEGATED} ({error})"
            return
        self.controllers = frozenset(available)


@contextmanager
def _tolerated(job_id: str, *, unless: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if unless:
            raise
        _warn(job_id, error)


def _warn(job_id: str, error: OSError) -> None:
    log.warning("job %s runs without a group of its own: %s", job_id, error)


def cure(groups: Cgroups | None) -> str:
    """Return how to get the controllers that are missing."""
    if groups is not None:
        return groups.cure
    return NO_MOUNT if procfs.cgroup2_mount() is None else NOT_OURS


def _delegated(group: str) -> bool:
    for name in _DELEGATION:
        with contextlib.suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def _remove(path: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError:
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _enter(group: str) -> None:
    _write(_procs(group), "0")


def _procs(group: str) -> str:
    return f"{group}/cgroup.procs"


def _can_fork_into(group: str) -> bool:
    """Return whether the kernel can do it (Linux 5.7) and nothing filters clone3 out."""
    try:
        pid = _fork_into(group)
    except OSError as error:
        log.info("no child can be forked into a control group: %s", error)
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _fork_into(group: str) -> int:
    with fsuid.own():
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return libc.fork_into(directory)
        finally:
            os.close(directory)


def _write(path: str, text: str) -> None:
    with fsuid.own():  # for the write as well: the kernel checks the rights again when it moves
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _make(path: str) -> None:
    with fsuid.own(), contextlib.suppress(FileExistsError):
        os.mkdir(path)
        if fsuid.engine is not None:  # the engine reads there what its jobs have used
            os.chmod(path, 0o755)  # noqa: S103


def _words(path: str) -> list[str]:
    try:
        return files.read(path).decode().split()
    except OSError:
        return []
