"""The networks from which users have logged in since the server started."""

from __future__ import annotations

import collections
import threading

_KEPT = 10_000  # networks; the one whose login is longest ago is forgotten first


class KnownNetworks:
    """A set of networks of limited size. Any thread may call any method.

    Clients of these networks do not wait for those of unknown networks. Otherwise an attacker with
    many addresses could delay every new connection.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._networks: collections.OrderedDict[str, None] = collections.OrderedDict()

    def __contains__(self, network: object) -> bool:
        return network in self._networks

    def add(self, network: str) -> None:
        """Add the network of a client that has logged in."""
        with self._lock:
            self._networks[network] = None
            self._networks.move_to_end(network)
            if len(self._networks) > _KEPT:
                self._networks.popitem(last=False)
