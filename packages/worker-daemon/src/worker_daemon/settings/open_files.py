"""The limit of open files (RLIMIT_NOFILE), divided among what needs them.

Each connection, each output that is being sent and each long body keeps a file open. Each kind has
a share of its own, and all shares together are below the limit, so that no kind can use them up.
"""

from __future__ import annotations

import contextlib
import logging
import resource
from typing import BinaryIO, NamedTuple

from worker_daemon.settings import config

_log = logging.getLogger(__name__)

_OTHER = 256  # files for everything else: the database, logs, files that are read at once
_BODIES = 128  # long bodies that are received at the same time


class Shares(NamedTuple):
    """How many of each kind may be open at the same time."""

    connections: int
    downloads: int
    bodies: int


def make_room(settings: config.Config) -> Shares:
    """Raise the limit of this process as far as needed and permitted, and return the shares."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OTHER + settings.max_running + sum(_wanted(settings))
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = shares(settings, soft)
    if found.connections < settings.max_connections:
        _log.warning(
            "only %d connections and %d downloads at a time: at most %d files may be open "
            "(ulimit -n, LimitNOFILE=), and max_connections = %d needs %d",
            *(found.connections, found.downloads, soft, settings.max_connections, needed),
        )
    return found


def shares(settings: config.Config, limit: int) -> Shares:
    """Return the shares of a limit of `limit` files."""
    # The engine keeps a descriptor for the process of each running job.
    free = limit - _OTHER - min(settings.max_running, limit // 4)
    wanted = _wanted(settings)
    if sum(wanted) <= free:
        return wanted
    downloads = max(4, min(wanted.downloads, free // 4))
    bodies = max(2, min(wanted.bodies, free // 16))
    connections = max(10, min(wanted.connections, free - downloads - bodies))
    return Shares(connections, downloads, bodies)


def _wanted(settings: config.Config) -> Shares:
    return Shares(settings.max_connections, settings.max_connections // 2, _BODIES)


class Download:
    """An output that is being sent. It takes a place until it is closed."""

    def __init__(self, file: BinaryIO, place: contextlib.ExitStack) -> None:
        self._file, self._place = file, place
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int | None = -1, /) -> bytes:
        """Read from the file."""
        return self._file.read(-1 if size is None else size)

    def close(self) -> None:
        """Close the file, and give the place back."""
        with self._place:
            self._file.close()
