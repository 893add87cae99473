"""What a supervisor has its engine keep for the next supervisor: one descriptor.

Behind it are the pidfds of all running leaders (supervisor/bag.py). The engine does not look at it.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque

from worker_core import wire
from worker_core.linux import descriptors
from worker_core.linux.descriptor_store import DescriptorStore

log = logging.getLogger(__name__)

_MOST = 16  # descriptors with one message
_PAUSE = 1.0  # seconds before one that could not be taken is asked for again


class KeptDescriptor:
    """The descriptor to keep, which a supervisor replaces now and then. Not for several threads."""

    def __init__(self, store: DescriptorStore | None) -> None:
        """With `store`, systemd keeps it as well, and may have it from the process before.

        What `store` has is closed here.
        """
        self._store = store
        self._kept = [] if store is None else list(store.stored)
        self._came: deque[int] = deque()
        self._missed = False
        self._asked = 0.0

    def receive(self, peer: socket.socket, size: int) -> bytes:
        """Receive bytes from a supervisor, and what came along."""
        data, came, cut = descriptors.receive(peer, size, _MOST)
        self._came.extend(came)
        self._missed |= cut
        return data

    def replace(self) -> None:
        """Keep the descriptor that came with the message that is being handled."""
        if not self._came:  # no more files may be open; what was kept before is of some use still
            self._missed = True
            return
        descriptors.close(self._kept)
        self._kept = [self._came.popleft()]
        if self._store is not None:
            self._store.keep(self._kept[0])

    def request(self, peer: socket.socket) -> None:
        """Give a supervisor what is kept, and ask it for what is to be kept from now on."""
        self._asked = time.monotonic()
        self._missed = False
        frame = wire.encode({"op": "kept"})
        sent = descriptors.send(peer, frame, self._kept) if self._kept else 0
        peer.sendall(frame[sent:])

    @property
    def is_due(self) -> bool:
        """Whether one that could not be taken is to be asked for again."""
        return self._missed and time.monotonic() > self._asked + _PAUSE

    def disconnected(self) -> None:
        """Forget what came with messages that did not."""
        descriptors.close(self._came)
        self._came.clear()

    def close(self) -> None:
        """Keep nothing any more."""
        self.disconnected()
        descriptors.close(self._kept)
        self._kept = []
