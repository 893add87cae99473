"""Keeps the pidfds of running leaders open in other processes, for the next supervisor.

A process that is not the parent of a leader can learn the exit status only from a pidfd that was
open when the leader was reaped. The pidfds of a supervisor are closed when it is killed. So they
are put into a bag (bag.py). Every engine keeps the reading end of the bag, and so does systemd if
this is a service. The next supervisor gets the bag from them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container

from worker_core.linux import descriptors
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.supervisor.bag import Bag, Held
from worker_core.supervisor.server import Connection

log = logging.getLogger(__name__)

_PASSED_ON = "WORKER_KEPT"  # the variable with the number of the reading end
_ROOM = 128  # messages in the bag, before those of jobs that have ended are dropped


class Keeper:
    """Fills the bag, and drops the pidfds of ended jobs."""

    def __init__(self, running: Callable[[], Container[str]]) -> None:
        """`running` returns the ids of all jobs that have not been recorded as ended."""
        self._running = running
        self.bag = Bag()
        self._messages = 0  # in the bag

    def add(self, job_id: str, pid: int, started_at: float, pidfd: int | None = None) -> None:
        """Keep the leader of a job that this supervisor adopts."""
        self.count()
        self.put(job_id, pid, started_at, pidfd)

    def put(self, job_id: str, pid: int, started_at: float, pidfd: int | None = None) -> None:
        """Put the pidfd of a job's leader into the bag; without `pidfd` it is opened.

        The launcher that has forked the leader does this, because the supervisor may be killed
        before it knows of the leader.
        """
        try:
            opened = os.pidfd_open(pid) if pidfd is None else pidfd
            try:
                self.bag.put([Held(job_id, pid, started_at)], [opened])
            finally:
                if opened != pidfd:
                    os.close(opened)
        except ProcessLookupError:  # its launcher has reaped it, and reports its end
            return
        except OSError as error:
            log.warning("job %s: nobody keeps its pidfd: %s", job_id, error)

    def count(self) -> None:
        """Note that a message is put into the bag, by a launcher or by `add`; make room if needed.

        Jobs mostly end in the order in which they began. Then it is enough to drop the oldest
        messages. If a long job is among these, the whole bag is tidied.
        """
        self._messages += 1
        if self._messages < _ROOM:
            return
        try:
            running = self._running()
            self._messages -= (dropped := self.bag.drop_ended(running))
            if dropped < _ROOM // 4:
                self._messages = -(-self.bag.tidy(running) // descriptors.MOST)
        except OSError as error:
            log.warning("cannot tidy the pidfds that others keep: %s", error)

    def publish(self, store: DescriptorStore) -> None:
        """Have systemd keep the bag, instead of the bag of the previous supervisor."""
        store.keep(self.bag.fileno())

    def give(self, connection: Connection) -> None:
        """Have an engine keep the bag."""
        connection.send({"event": "kept"}, self.bag.fileno())

    def pass_on(self) -> None:
        """Leave the bag open for the program that this process is about to execute."""
        os.set_inheritable(self.bag.fileno(), True)
        os.environ[_PASSED_ON] = str(self.bag.fileno())


def passed_on() -> list[int]:
    """Return the bag that the previous program of this process left open; None if there is none."""
    number = os.environ.pop(_PASSED_ON, "")
    if not number.isdigit():
        return []
    os.set_inheritable(int(number), False)
    return [int(number)]
