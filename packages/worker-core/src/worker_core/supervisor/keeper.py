"""Has others keep the pidfds of running leaders, for the supervisor after this one.

A pidfd must be open when its process is reaped; else nobody can learn how that ended. Those of this
supervisor are closed when it is killed. So it has them in a bag (bag.py), whose reading end every
engine keeps, and systemd if this is a service. The next supervisor gets it from them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container

from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.supervisor.bag import Bag, Held
from worker_core.supervisor.server import Connection

log = logging.getLogger(__name__)

_PASSED_ON = "WORKER_KEPT"  # the variable with the number of the reading end
_ROOM = 128  # pidfds of which most are of jobs that have ended, before the bag is tidied


class Keeper:
    """Fills the bag, and tidies it whenever most of it is of no use any more."""

    def __init__(self, running: Callable[[], Container[str]]) -> None:
        """`running` returns the ids of all jobs that have not been recorded as ended."""
        self._running = running
        self.bag = Bag()
        self._added = self._left = 0

    def add(self, job_id: str, pid: int, started_at: float, pidfd: int | None = None) -> None:
        """Have the leader of a job kept, unless its launcher has reaped it by now and tells its
        end; with `pidfd`, of a process that may have been reaped."""
        try:
            opened = os.pidfd_open(pid) if pidfd is None else pidfd
            try:
                self._put(Held(job_id, pid, started_at), opened)
            finally:
                if opened != pidfd:
                    os.close(opened)
        except ProcessLookupError:
            return
        except OSError as error:
            log.warning("job %s: nobody keeps its pidfd: %s", job_id, error)

    def put(self, job_id: str, pid: int, started_at: float) -> None:
        """Have a leader kept, in the launcher that has forked it."""
        try:
            pidfd = os.pidfd_open(pid)
            try:
                self.bag.put([Held(job_id, pid, started_at)], [pidfd])
            finally:
                os.close(pidfd)
        except OSError as error:
            log.warning("job %s: nobody keeps its pidfd: %s", job_id, error)

    def count(self) -> None:
        """Take note that a launcher has put one in."""
        self._added += 1
        try:
            self._tidy_if_due()
        except OSError as error:
            log.warning("cannot tidy the pidfds that others keep: %s", error)

    def _tidy_if_due(self) -> None:
        if self._added >= max(_ROOM, self._left):
            self._tidy()

    def _put(self, held: Held, pidfd: int) -> None:
        self._tidy_if_due()
        try:
            self.bag.put([held], [pidfd])
        except BlockingIOError:
            self._tidy()
            self.bag.put([held], [pidfd])
        self._added += 1

    def _tidy(self) -> None:
        self._left = self.bag.tidy(self._running())
        self._added = 0

    def publish(self, store: DescriptorStore) -> None:
        """Have systemd keep the bag, instead of that of the supervisor before."""
        store.keep(self.bag.fileno())

    def give(self, connection: Connection) -> None:
        """Have an engine keep the bag."""
        connection.send({"event": "kept"}, self.bag.fileno())

    def pass_on(self) -> None:
        """Leave the bag open for the next program of this process, which is to be executed."""
        os.set_inheritable(self.bag.fileno(), True)
        os.environ[_PASSED_ON] = str(self.bag.fileno())


def passed_on() -> list[int]:
    """Return the bag of the program that this process executed before, if there is one."""
    number = os.environ.pop(_PASSED_ON, "")
    if not number.isdigit():
        return []
    os.set_inheritable(int(number), False)
    return [int(number)]
