"""What an engine does from time to time: remove old jobs, clear leftovers, copy the database."""

from __future__ import annotations

import logging
import os
import threading

from worker_core import retention
from worker_core.clock import Timeline
from worker_core.disk import reserve, statedir
from worker_core.settings import EngineSettings
from worker_core.store import backups, continuity, records
from worker_core.store.removal import Remover
from worker_core.store.store import Store

log = logging.getLogger(__name__)

_INTERVAL = 60.0  # seconds


class Maintenance:
    """Runs at once and then every minute, in a thread of its own."""

    def __init__(
        self,
        state_dir: str,
        store: Store,
        reserve: reserve.Reserve,
        timeline: Timeline,
        *,
        settings: EngineSettings,
        remover: Remover,
        leftovers: continuity.Leftovers,
        durable: bool,
    ) -> None:
        """`leftovers` are the directories that a crash left without a record."""
        self._state_dir = state_dir
        self._store = store
        self._reserve = reserve
        self._timeline = timeline
        self._settings = settings
        self._remover = remover
        self._leftovers = leftovers
        self._durable = durable
        self._closing = threading.Event()
        database = os.path.join(state_dir, statedir.DATABASE)
        self._copies = backups.DailyCopies(state_dir, database, self._closing.is_set)
        self._thread = threading.Thread(target=self._work, name="worker-maintenance", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a run that is under way is finished first."""
        self._closing.set()
        self._thread.join()

    def run(self) -> None:
        """Do everything that is due."""
        leftovers, self._leftovers = self._leftovers, continuity.Leftovers()
        continuity.clear(self._state_dir, leftovers, self._remover)
        self._expire()
        self._reserve.kept()
        if self._durable and self._copies.make_if_due():
            continuity.advance(self._state_dir, self._store)

    def _work(self) -> None:
        while True:
            try:
                self.run()
            except Exception:
                log.exception("maintenance failed; trying again later")
            if self._closing.wait(_INTERVAL):
                return

    def _expire(self) -> None:
        """Remove the finished jobs that the settings do not keep."""
        self._timeline.look()  # `Engine.ago` needs regular looks, too
        keep_age = self._settings.keep_age
        too_old = None if keep_age is None else self._timeline.ago(keep_age)
        with self._store.reading() as db, records.one_moment(db):
            finished, kept = records.finished(db), records.kept(db)
            expired = retention.expired(finished, kept, self._settings, too_old)
        self._remover.remove(expired, self._closing.is_set)
        self._remover.settle()
