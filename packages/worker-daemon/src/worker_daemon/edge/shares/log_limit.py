"""Limit how many log lines clients without a login can cause, so that they cannot fill the disk.

A line about such a client has the client's `address`, and no `user`. Lines about users and lines
about the daemon itself are never limited.
"""

from __future__ import annotations

import collections
import logging
import threading

from worker_daemon.auth import throttle

_log = logging.getLogger(__name__)

LINES_OF_NETWORK = 10  # lines per second about clients of one network
LINES = 50  # lines per second about all clients without a login
REPORT_INTERVAL = 10.0  # seconds between two lines that say how many were left out
_NETWORKS = 1000  # networks whose left-out lines are counted one by one

# The loggers whose lines clients without a login can cause.
_LOGGERS = ("worker_daemon.api.access", "worker_daemon.edge.tls.handshake")


class LogLimit(logging.Filter):
    """Leaves out log lines beyond the limits, and reports how many. Any thread may call it."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # guards what follows
        self._second = 0
        self._written: collections.Counter[str] = collections.Counter()  # in this second
        self._left_out: collections.Counter[str] = collections.Counter()  # since the last report
        self._reported = float("-inf")

    def install(self) -> None:
        """Begin to filter the lines that clients without a login can cause."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        """Stop filtering, and report what was left out since the last report."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)
        self.report(float("inf"))

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        address = getattr(record, "address", None)
        if address is None or getattr(record, "user", None) is not None:
            return True
        network = throttle.network(address)
        with self._lock:
            if int(record.created) != self._second:
                self._second = int(record.created)
                self._written.clear()
            if self._written.total() < LINES and self._written[network] < LINES_OF_NETWORK:
                self._written[network] += 1
                return True
            known = network in self._left_out or len(self._left_out) < _NETWORKS
            self._left_out[network if known else ""] += 1
            return False

    def report(self, now: float) -> None:
        """Log how many lines were left out, at most once per interval; `now` is monotonic."""
        with self._lock:
            if not self._left_out or now - self._reported < REPORT_INTERVAL:
                return
            self._reported = now
            left_out, self._left_out = self._left_out, collections.Counter()
        network, most = left_out.most_common(1)[0]
        _log.warning(
            "left out %d log lines about clients without a login, %d of them about %s",
            left_out.total(),
            most,
            network or "many other networks",
        )
