"""The descriptor that a supervisor asks its engine to keep for the next supervisor.

It refers to the pidfds of all running leaders (supervisor/bag.py). The engine does not use it.
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
_PAUSE = 1.0  # seconds until a descriptor that could not be received is requested again


class KeptDescriptor:
    """The kept descriptor; the supervisor replaces it now and then. Not thread-safe."""

    def __init__(self, store: DescriptorStore | None) -> None:
        """With `store`, systemd keeps a copy too, and may have one from the previous process.

        This object closes the descriptors in `store.stored`.
        """
        self._store = store
        self._kept = [] if store is None else list(store.stored)
        self._came: deque[int] = deque()
        self._missed = False
        self._asked = 0.0

    def receive(self, peer: socket.socket, size: int) -> bytes:
        """Receive bytes from a supervisor, and keep the descriptors that came with them."""
        data, came, cut = descriptors.receive(peer, size, _MOST)
        self._came.extend(came)
        self._missed |= cut
        return data

    def replace(self) -> None:
        """Keep the descriptor that came with the message that is being handled."""
        if not self._came:  # too many open files; the one kept before is still useful
            self._missed = True
            return
        descriptors.close(self._kept)
        self._kept = [self._came.popleft()]
        if self._store is not None:
            self._store.keep(self._kept[0])

    def request(self, peer: socket.socket) -> None:
        """Give a supervisor the kept descriptor, and ask it for the one to keep from now on."""
        self._asked = time.monotonic()
        self._missed = False
        frame = wire.encode({"op": "kept"})
        sent = descriptors.send(peer, frame, self._kept) if self._kept else 0
        peer.sendall(frame[sent:])

    @property
    def is_due(self) -> bool:
        """Whether a descriptor that could not be received has to be requested again."""
        return self._missed and time.monotonic() > self._asked + _PAUSE

    def disconnected(self) -> None:
        """Close the descriptors whose messages were not received completely."""
        descriptors.close(self._came)
        self._came.clear()

    def close(self) -> None:
        """Close everything that is kept."""
        self.disconnected()
        descriptors.close(self._kept)
        self._kept = []
