"""Descriptors that systemd keeps for a service while it is not running (sd_notify(3), FDSTORE=1).

The unit needs FileDescriptorStoreMax=. The next process of the service gets the stored descriptors
like sockets: from descriptor 3 on, announced by LISTEN_FDS and LISTEN_FDNAMES.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable

from worker_core.linux import descriptors
from worker_core.model.errors import InvalidRequest

log = logging.getLogger(__name__)

_NAMES = (
    "worker-kept-a",
    "worker-kept-b",
)  # used in turns: removing a name removes all descriptors with that name
_FIRST = 3  # SD_LISTEN_FDS_START


class DescriptorStore:
    """The store of this service, for one descriptor. Without systemd it does nothing."""

    def __init__(self, passed: Iterable[tuple[str, int]] = ()) -> None:
        """`passed` is what `passed()` returned; `stored` then has the descriptors of the store."""
        stored = [(name, number) for name, number in passed if self.owns(name)]
        self.stored = [number for _, number in stored]
        self._name = _NAMES[0] if any(name == _NAMES[0] for name, _ in stored) else _NAMES[1]
        self._path = os.environ.get("NOTIFY_SOCKET", "")

    @staticmethod
    def owns(name: str) -> bool:
        """Return whether a descriptor with this name comes from the store."""
        return name in _NAMES

    @staticmethod
    def passed() -> list[tuple[str, int]]:
        """Return name and number of each descriptor that systemd has passed to this process.

        Makes them close-on-exec and removes the environment variables, so that no child inherits
        them. Raises InvalidRequest if a descriptor is not open.
        """
        count = os.environ.pop("LISTEN_FDS", "")
        pid = os.environ.pop("LISTEN_PID", "")
        names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
        if pid != str(os.getpid()) or not (count.isascii() and count.isdecimal()):
            return []
        numbers = range(_FIRST, _FIRST + int(count))
        for each in numbers:
            try:
                os.set_inheritable(each, False)
            except OSError as error:
                raise InvalidRequest(
                    f"cannot use descriptor {each}, which LISTEN_FDS={count} names: "
                    f"{error.strerror}; unset LISTEN_FDS, or start this by its socket unit"
                ) from None
        names += [""] * len(numbers)  # an older systemd gives none
        return list(zip(names, numbers, strict=False))

    def keep(self, descriptor: int) -> None:
        """Store a copy of a descriptor; it replaces the one that was stored before."""
        before, after = self._name, _NAMES[self._name == _NAMES[0]]
        # FDPOLL=0: else systemd drops a socket whose other end is closed.
        if self._notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={after}", [descriptor]):
            self._notify(f"FDSTOREREMOVE=1\nFDNAME={before}", [])
            self._name = after

    def _notify(self, text: str, along: list[int]) -> bool:
        """Send a message to systemd; return whether it was sent."""
        if not self._path:
            return False
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
            try:
                manager.connect(path)
                descriptors.send(manager, text.encode(), along)
            except OSError as error:
                log.warning("systemd does not take %s: %s", text.split("\n", 1)[0], error)
                return False
        return True
