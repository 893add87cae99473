"""The supervisor's side of the launchers: forks them, gives them starts, and reads their reports.

Launchers pull: every start goes into one socket that all of them share, and the kernel gives it to
exactly one. So no start is queued behind a launcher that hangs, and the supervisor can take back a
start that no launcher has taken. Only a few starts are in the socket; the others wait in a queue in
which owners take turns (start_queue.py). When starts wait and no launcher has reported anything for
a moment, one more launcher is forked.
"""

from __future__ import annotations

import contextlib
import logging
import marshal
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from worker_core import failpoints
from worker_core.supervisor import oom, start_message
from worker_core.supervisor.launcher import Launch, Launcher
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.slots import IDLE, Held, Slot, Slots
from worker_core.supervisor.start_queue import StartQueue

log = logging.getLogger(__name__)

PATIENCE = 0.1  # seconds for which starts may wait without any report
_COUNT = 2
_AHEAD = 2  # starts that each launcher is given or may take next
_MOST = 34
_NEWS = 16  # reports of one launcher before others have their turn
_ROOM = 1 << 16
_RETRY = 0.1
_DESCRIPTORS = 1 << 16  # those above are not closed in a launcher

News = tuple[Any, ...]


@dataclass
class _Handle:
    """One launcher."""

    pid: int
    tell: socket.socket
    slot: Slot
    jobs: int = 0  # leaders that it has started and not reaped


class Launchers:
    """All launchers of one supervisor."""

    def __init__(
        self,
        loop: Loop,
        launch: Launch,
        on_news: Callable[[News], None],
        kept: Iterable[int] = (),
    ) -> None:
        """`on_news` is called with each report (launcher.py); `launch` needs the descriptors
        `kept`."""
        self._kept = {fd for fd in kept if fd >= 0}
        self._loop = loop
        self._launch = launch
        self._on_news = on_news
        self._give, self._take = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._give.setblocking(False)
        self._take.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._take, select.POLLIN)
        self._slots = Slots(_MOST)
        self._handles: dict[int, _Handle] = {}
        self._waiting = StartQueue()  # not in the socket yet
        # Starts in the socket or taken, without a report: job id -> owner.
        self._given: dict[str, str] = {}
        self._heard = 0.0  # monotonic time of the latest report on a start
        self._open = True
        self._opens_again = False
        self._held = False  # whether nothing is given at present
        self.fault: str | None = None
        """Why no launcher can be forked; None if it is possible."""

    # -- starts ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Fork the launchers that are always there."""
        while self._open and len(self._handles) < _COUNT and self._fork(stays=True):
            pass
        if self._open and len(self._handles) < _COUNT and not self._opens_again:
            self._opens_again = True
            self._loop.call_later(_RETRY, self._open_again)

    def _open_again(self) -> None:
        self._opens_again = False
        self.open()

    def give(self, job_id: str, spec: dict[str, Any], owner: str, *, alone: bool = False) -> None:
        """Have a job started; with `alone`, by a new launcher that has nothing else to do."""
        data = start_message.encode(job_id, spec)
        if not self._handles:
            self.open()
        if alone and not self._held and self._fork(stays=False, first=data):
            return
        self._waiting.add(owner, job_id, data)
        self._pump()

    def take_back(self, job_id: str) -> bool:
        """Take a start back; False if a launcher has taken it, even one that has died since."""
        if job_id in self._given:
            self.take_all_back()
        return self._waiting.remove(job_id)

    def forget(self, job_id: str) -> None:
        """Note that a given start is no longer with any launcher."""
        self._given.pop(job_id, None)

    def take_all_back(self) -> set[str]:
        """Return the jobs that no launcher has taken; they are given again in a moment."""
        back: list[tuple[str, str, bytes]] = []
        while True:
            try:
                start = start_message.receive(self._take)
            except BlockingIOError:
                break
            except start_message.TornError as error:
                self._hear(("short", error.job_id, str(error)))
                continue
            if start is None:
                break
            owner = self._given.pop(start.job_id, "")
            back.append((owner, start.job_id, start.data))
        for each in reversed(back):
            self._waiting.put_back(*each)
        self._loop.call_later(0, self._pump)
        return self._waiting.ids()

    def hold(self) -> set[str]:
        """Give launchers no start any more; return the jobs that no launcher has taken."""
        self._held = True
        return self.take_all_back()

    def _pump(self) -> None:
        """Put starts into the socket, as many as the launchers can take soon."""
        while self._waiting and not self._held and len(self._given) < _AHEAD * len(self._handles):
            owner, job_id, data = self._waiting.take_next()
            if not self._given:
                self._heard = self._loop.clock.monotonic()
            try:
                start_message.send(self._give, job_id, data)
            except OSError as error:
                self._waiting.put_back(owner, job_id, data)
                if not isinstance(error, BlockingIOError):
                    log.warning("cannot give a start to a launcher now: %s", error)
                    self._loop.call_later(_RETRY, self._pump)
                return  # there is room again when a launcher reports
            self._given[job_id] = owner
            failpoints.point("supervisor.given")

    # -- launchers -------------------------------------------------------------------------------

    def __contains__(self, pid: int) -> bool:
        """Return whether a process is a launcher."""
        return pid in self._handles

    def __len__(self) -> int:
        return len(self._handles)

    def are_all_busy(self) -> bool:
        """Return whether starts wait and no launcher has reported for a moment."""
        if self._held or self._loop.clock.monotonic() - self._heard < PATIENCE:
            return False
        return bool(self._poll.poll(0))

    def look(self) -> None:
        """Fork one more launcher if all are busy."""
        if self.are_all_busy() and self._fork(stays=False):
            self._heard = self._loop.clock.monotonic()

    def holding(self) -> Iterable[tuple[Held, int, int]]:
        """Yield for each launcher that works on a start: what it works on, its pid, and how many of
        its leaders run."""
        for each in self._handles.values():
            held = each.slot.read()
            if held.stage != IDLE:
                yield held, each.pid, each.jobs

    def end(self, pid: int) -> None:
        """Kill a launcher; `bury` then returns what it was working on."""
        os.kill(pid, signal.SIGKILL)  # our child, and not reaped as long as it is in the table

    def end_stopped(self) -> None:
        """Kill every launcher that was stopped: it would not report the ends of its jobs.

        A job that runs under the supervisor's account can send it SIGSTOP. To be called at SIGCHLD,
        which the kernel sends for a child that stops as well.
        """
        for pid in list(self._handles):
            with contextlib.suppress(ChildProcessError):  # it was reaped in this moment
                if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None:
                    log.warning("launcher %d was stopped, so it is ended", pid)
                    self.end(pid)

    def hear(self) -> None:
        """Handle now what launchers have reported so far."""
        for each in list(self._handles.values()):
            self._listen(each)

    def bury(self, pid: int) -> Held | None:
        """Return what a launcher that was reaped was working on and had not reported; None if it is
        not a launcher."""
        handle = self._handles.pop(pid, None)
        if handle is None:
            return None
        while self._listen(handle):
            pass
        self._loop.unwatch(handle.tell.fileno())
        handle.tell.close()
        held = handle.slot.read()
        self.forget(held.job_id)
        self._slots.give_back(handle.slot)
        self.open()
        return held

    def close(self) -> None:
        """Close the sockets, so that each launcher ends as soon as it can."""
        self._open = False
        self._held = True
        for handle in self._handles.values():
            self._loop.unwatch(handle.tell.fileno())
            handle.tell.close()
        self._give.close()
        self._take.close()

    def end_all(self) -> None:
        """Kill all launchers and fork none any more; `bury` is to be called for each."""
        self._open = False
        for pid in self._handles:
            self.end(pid)

    def _ready(self, handle: _Handle) -> None:
        self._listen(handle)

    def _listen(self, handle: _Handle) -> bool:
        """Handle some reports of a launcher; return False if there are no more now."""
        if handle.tell.fileno() < 0:  # it was buried a moment ago
            return False
        for _ in range(_NEWS):
            try:
                data = handle.tell.recv(_ROOM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError as error:
                # The socket stays readable. Without its reports the launcher is of no use; when it
                # is reaped its jobs and its start are settled as those of any dead launcher.
                log.error("cannot hear launcher %d, so it is ended: %s", handle.pid, error)
                self._loop.unwatch(handle.tell.fileno())
                if handle.pid in self._handles:  # else it was reaped
                    self.end(handle.pid)
                return False
            if not data:  # it has died; it is buried when it is reaped
                self._loop.unwatch(handle.tell.fileno())
                return False
            news = marshal.loads(data)  # noqa: S302  # from a fork of ourselves
            handle.jobs += {"begun": 1, "ended": -1}.get(news[0], 0)
            self._hear(news)
        return True

    def _hear(self, news: News) -> None:
        if news[0] in ("begun", "refused", "short"):
            self._given.pop(news[1], None)
            self._heard = self._loop.clock.monotonic()
        self._on_news(news)
        if self._waiting:
            self._pump()

    def _fork(self, *, stays: bool, first: bytes | None = None) -> bool:
        """Fork a launcher; return False if that is not possible now."""
        if len(self._handles) >= _MOST:
            return False
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._cannot(error)
            return False
        slot = self._slots.take()
        try:
            pid = os.fork()
        except OSError as error:
            self._slots.give_back(slot)
            for each in (ours, theirs):
                each.close()
            self._cannot(error)
            return False
        if pid == 0:
            self._become(theirs, slot, stays=stays, first=first)
        theirs.close()
        self.fault = None
        handle = self._handles[pid] = _Handle(pid, ours, slot)
        self._loop.watch(ours.fileno(), selectors.EVENT_READ, lambda _: self._ready(handle))
        self._loop.call_later(0, self._pump)  # one more start can be given
        return True

    def _cannot(self, error: OSError) -> None:
        if self.fault is None:
            log.warning("cannot fork a launcher now: %s", error)
        self.fault = str(error)

    def _become(
        self, theirs: socket.socket, slot: Slot, *, stays: bool, first: bytes | None
    ) -> None:
        """Become a launcher, in the child; close every descriptor that it does not need."""
        try:
            oom.expose()
            if self._heard:
                failpoints.disarm()  # failpoints are for the launchers that are forked first
            mine = {0, 1, 2, self._take.fileno(), theirs.fileno(), *_logs()}
            _close_all_but(mine | self._kept)
            Launcher(self._take, theirs, slot, self._launch, stays=stays).run(first)
        except BaseException:
            log.exception("a launcher failed")
        finally:
            os._exit(1)


def _logs() -> Iterable[int]:
    """Yield the descriptors that the log is written to."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            with contextlib.suppress(OSError, ValueError):
                yield handler.stream.fileno()


def _close_all_but(kept: set[int]) -> None:
    """Close all other descriptors: a launcher must not keep a lock or a connection open after the
    supervisor has ended."""
    low = 0
    for fd in [*sorted(kept), _DESCRIPTORS]:
        if fd > low:  # of an empty range, Python 3.11 closes everything from there on
            os.closerange(low, fd)
        low = fd + 1
