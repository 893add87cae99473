"""Has others keep the pidfds of running leaders, for the supervisor after this one.

A pidfd must be open when its process is reaped; else nobody can learn how that ended. Those of this
supervisor are closed when it is killed. So it has them in a bag (bag.py), whose reading end every
engine keeps, and systemd if this is a service. The next supervisor gets it from them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Iterable, Iterator

from worker_core import descriptors
from worker_core.descriptor_store import DescriptorStore
from worker_core.supervisor.bag import Bag, Held, contents
from worker_core.supervisor.process import Process
from worker_core.supervisor.server import Connection

log = logging.getLogger(__name__)

_PASSED_ON = "WORKER_KEPT"  # the variable with the number of the reading end
_ROOM = 256  # pidfds of which most are of jobs that have ended, before another bag is made


class Keeper:
    """Fills the bag, and makes another one whenever most of it is of no use any more."""

    def __init__(
        self,
        running: Callable[[], Container[str]],
        share: Callable[[int], None],
        store: DescriptorStore | None,
    ) -> None:
        """`running` returns the ids of all jobs that have not been recorded as ended; `share` is
        called with the reading end of each new bag, for the engines to keep."""
        self._running = running
        self._share = share
        self._store = store
        self._bag: Bag | None = None
        self._added = self._moved = 0

    def give(self, connection: Connection) -> None:
        """Have one more engine keep the bag."""
        bag = self._renewed() if self._bag is None else self._bag
        connection.keeps = True
        connection.send({"event": "kept"}, bag.fileno())

    def pass_on(self) -> None:
        """Leave the bag open for the next program of this process, which is to be executed."""
        if self._bag is not None:
            os.set_inheritable(self._bag.fileno(), True)
            os.environ[_PASSED_ON] = str(self._bag.fileno())

    def add(self, process: Process) -> None:
        """Have the leader of a job kept."""
        if process.pid is None:
            return
        held = Held(process.id, process.pid.pid, process.pid.started_at)
        try:
            pidfd = os.pidfd_open(held.pid) if process.pidfd is None else process.pidfd
            try:
                self._put(held, pidfd)
            finally:
                if pidfd != process.pidfd:
                    os.close(pidfd)
        except ProcessLookupError:  # it was reaped already, by who started it for us
            return
        except OSError as error:
            log.warning("job %s: nobody keeps its pidfd: %s", process.id, error)

    def _put(self, held: Held, pidfd: int) -> None:
        bag = self._bag
        if bag is None or self._added >= max(_ROOM, self._moved):
            bag = self._renewed()
        try:
            bag.put([held], [pidfd])
        except BlockingIOError:
            self._renewed().put([held], [pidfd])
        self._added += 1

    def _renewed(self) -> Bag:
        """Make another bag with what is still of use, and have everybody keep that one instead."""
        before, bag = self._bag, Bag()
        self._added = self._moved = 0
        for some in _joined(self._of_use(before)):
            try:
                bag.put([held for held, _ in some], [pidfd for _, pidfd in some])
                self._moved += len(some)
            except OSError as error:
                log.error("nobody keeps the pidfds of %d jobs: %s", len(some), error)
            finally:
                descriptors.close([pidfd for _, pidfd in some])
        self._bag = bag
        self._share(bag.fileno())
        if self._store is not None:
            self._store.keep(bag.fileno())
        if before is not None:
            before.close()
        return bag

    def _of_use(self, bag: Bag | None) -> Iterator[tuple[Held, int]]:
        running = self._running()
        for some in contents(bag.fileno()) if bag is not None else ():
            for held, pidfd in some:
                if held.job_id in running:
                    yield held, pidfd
                else:
                    os.close(pidfd)


def passed_on() -> list[int]:
    """Return the bag of the program that this process executed before, if there is one."""
    number = os.environ.pop(_PASSED_ON, "")
    if not number.isdigit():
        return []
    os.set_inheritable(int(number), False)
    return [int(number)]


def _joined(pairs: Iterable[tuple[Held, int]]) -> Iterator[list[tuple[Held, int]]]:
    """Yield lists that are as long as a message can take."""
    some: list[tuple[Held, int]] = []
    for each in pairs:
        some.append(each)
        if len(some) == descriptors.MOST:
            yield some
            some = []
    if some:
        yield some
