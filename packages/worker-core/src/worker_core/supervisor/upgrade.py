"""Replaces this program with its installed version, by exec in the same process.

The process keeps its pid, its children, the lock and the pidfds of leaders. An upgrade waits until
no tree is in its grace and no start is under way.
"""

from __future__ import annotations

import logging
import os
import sys

from worker_core.supervisor import fsuid, identity, oom
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.keeper import Keeper
from worker_core.supervisor.loop import Loop

log = logging.getLogger(__name__)

_LOOK = 0.1  # seconds between two looks whether a grace is over
_LOOK_PAUSED = 0.02  # the same while no job is started
_LOOK_FIXED = 0.5  # seconds between two looks whether a bad list of accounts has been fixed
_SETTLE = 10.0  # seconds after its start in which a service is not upgraded by an engine


class Upgrade:
    """Executes this program again when an engine asks for it."""

    def __init__(
        self,
        loop: Loop,
        table: JobTable,
        keeper: Keeper,
        *,
        lock: int,
        accounts: str,
        service: bool,
    ) -> None:
        """`lock` is the descriptor of the lock, `accounts` is what --accounts was given."""
        self._loop = loop
        self._table = table
        self._keeper = keeper
        self._lock = lock
        self._accounts = accounts
        self._service = service
        self._began = loop.clock.monotonic()
        self._asked: float | None = None  # monotonic time of the first request
        self._paused: float | None = None  # monotonic time since when no job is started
        self.fault: str | None = None
        """Why no job is started, if that has lasted for some time."""

    def ask_by_engine(self) -> None:
        """Execute again for an engine of a later release, but not as often as it may ask."""
        if self._service and self._loop.clock.monotonic() - self._began < _SETTLE:
            log.warning("refused a request: this program has only just been executed")
        else:
            self.ask()

    def ask(self) -> None:
        """Execute again as soon as possible; go on as before if the new program could not start.

        Once starts are paused this must happen: the pending starts were given up, and the launchers
        have ended. If the list of accounts becomes invalid then, no job starts until it is fixed.
        """
        try:
            with fsuid.own():
                identity.names_in(self._accounts)
        except ValueError as error:
            self._refuse(str(error))
            return
        self.fault = None
        now = self._loop.clock.monotonic()
        self._asked = now if self._asked is None else self._asked
        if self._table.waits_for_grace(now - self._asked):  # jobs are started as usual meanwhile
            self._loop.call_later(_LOOK, self.ask)
            return
        self._paused = now if self._paused is None else self._paused
        if not self._table.pause(now - self._paused):
            self._loop.call_later(_LOOK_PAUSED, self.ask)
            return
        self._execute()

    def _refuse(self, why: str) -> None:
        if self._paused is None:
            self._asked = None
            log.error("cannot reload: %s; going on as before", why)
            return
        fault = f"no job is started until this is fixed: cannot reload: {why}"
        if fault != self.fault:
            log.error("%s", fault)
        self.fault = fault
        self._loop.call_later(_LOOK_FIXED, self.ask)

    def _execute(self) -> None:
        self._table.record_all()
        self._table.run_dir.note_running(list(self._table.jobs))
        os.set_inheritable(self._lock, True)
        self._keeper.pass_on()
        oom.pass_on()
        argv = [sys.executable, "-P", "-m", "worker_core.supervisor", *sys.argv[1:]]
        argv += [] if "--lock" in argv else ["--lock", str(self._lock)]
        with fsuid.own():  # the interpreter need not be readable for the engine
            os.execv(sys.executable, argv)  # noqa: S606  # ourselves
