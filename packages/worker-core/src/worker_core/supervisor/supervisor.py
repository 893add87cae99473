"""The supervisor: requests of engines in, events out, and the reasons to end."""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Iterable
from typing import Any

from worker_core import enforcement, wire
from worker_core.clock import SystemClock
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.supervisor import cgroup, detach, recover, requests
from worker_core.supervisor.cgroup import Cgroups
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.keeper import Keeper
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.queries import Queries
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.server import Connection, Server
from worker_core.supervisor.upgrade import Upgrade

log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds for the engine that started us to connect


class Supervisor:
    """Connects the server, the job table and what is done with requests."""

    def __init__(self, options: argparse.Namespace, run_dir: RunDir, lock: int) -> None:
        state_dir = self.state_dir = options.state_dir
        self.run_dir = run_dir
        self._ephemeral = options.ephemeral
        self._service = options.foreground
        self._ending = False
        self.loop = Loop(SystemClock())
        self._groups = Cgroups.probe(state_dir, self.loop.clock)
        self._server = Server(
            detach.listen(state_dir),
            self.loop,
            self._handle,
            on_alone=self._end_if_unused,
            able=_able(self._groups),
            engine_uid=os.geteuid() if options.engine is None else options.engine.pw_uid,
        )
        self._keeper = Keeper(lambda: self._table.jobs)
        self._table = JobTable(
            run_dir,
            self.loop,
            self._groups,
            root_jobs=options.root_jobs,
            emit=self._server.broadcast,
            watched=lambda: self._server.watched,
            on_empty=self._end_if_unused,
            keeper=self._keeper,
        )
        self._queries = Queries(self.loop, self._table, self._report)
        self._upgrade = Upgrade(
            self.loop,
            self._table,
            self._keeper,
            lock=lock,
            accounts=options.accounts,
            service=self._service,
        )
        self.loop.on_signals(
            {
                signal.SIGCHLD: self._table.reap,
                signal.SIGTERM: self._terminate,
                signal.SIGINT: lambda: None,
                signal.SIGHUP: self._upgrade.ask if self._service else lambda: None,
            }
        )

    def _report(self) -> dict[str, Any]:
        return {"fault": self._upgrade.fault, "hanging": self._table.hanging_starts()}

    def keep_in(self, store: DescriptorStore) -> None:
        """Take back the descriptors that systemd has kept; let it keep those of this supervisor."""
        self.take_back(store.stored)
        self._keeper.publish(store)

    def take_back(self, bags: Iterable[int]) -> None:
        """Go on with the jobs whose leaders others have kept; close the bags that hold them."""
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
        self.loop.call_later(_PATIENCE, self._end_if_unused)
        self.loop.run()
        self._table.launchers.close()
        if self._groups is not None:
            self._groups.close()
        self.run_dir.close()
        if self._ephemeral:
            import shutil  # slow to import, and not needed before

            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _handle(self, message: wire.Message, connection: Connection) -> None:
        if fault := requests.fault(message):
            log.warning("refused a request: %s", fault)
            return
        match message:
            case {"op": "start", "id": job_id, "spec": spec}:
                self._table.start(job_id, spec)
            case {"op": "kill", "id": job_id, **options}:
                self.loop.attempt(lambda: self._kill(job_id, options))
            case {"op": "signal", "id": job_id, "signal": signum}:
                self.loop.attempt(lambda: self._table.signal(job_id, signum))
            case {"op": "query", "ids": ids, "token": token}:
                self.loop.attempt(lambda: self._queries.answer(ids, token, connection))
            case {"op": "kept"}:
                self._exchange(connection)
            case {"op": "upgrade"}:
                self._upgrade.ask_by_engine()
            case {"op": "shutdown"}:
                self.loop.attempt(self._end_all)

    def _kill(self, job_id: str, options: dict[str, Any]) -> None:
        self._table.kill(
            job_id,
            reason=options.get("reason"),
            signum=options.get("signal"),
            grace=options.get("grace"),
        )

    def _exchange(self, connection: Connection) -> None:
        """Take back the descriptor that an engine has kept, and give it the new one to keep."""
        self.take_back(connection.take())
        # An engine of another account keeps none; systemd keeps them then.
        if connection.gives_descriptors:
            self.loop.attempt(lambda: self._keeper.give(connection))

    def _end_if_unused(self) -> None:
        """End if neither an engine nor a job needs us; an ephemeral supervisor ends its jobs."""
        if self._ephemeral and not self._server.watched and not self._ending:
            self._end_all()
        idle = not self._table.jobs
        if idle and (self._ending or not (self._server.watched or self._service)):
            self.loop.stop()

    def _end_all(self) -> None:
        """Kill all jobs, then end. A service stays: its administrator ends it, not an engine."""
        self._ending = not self._service
        for job_id in list(self._table.jobs):
            self._table.kill(job_id, reason="the engine was closed", signum=signal.SIGKILL)
        self._end_if_unused()

    def _terminate(self) -> None:
        """End after SIGTERM as soon as no job runs, so that the end of every job is recorded."""
        log.info("SIGTERM: ending after %d jobs", len(self._table.jobs))
        self._ending = True
        self._end_if_unused()


def _able(groups: Cgroups | None) -> wire.Message:
    """Return the part of the hello that describes this machine."""
    controllers = [] if groups is None else sorted(groups.controllers)
    cure, most = cgroup.cure(groups), enforcement.most_files()
    return {"controllers": controllers, "cure": cure, "open_files": most}
