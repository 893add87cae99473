"""Slows down whoever keeps failing, in bounded memory."""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
from collections.abc import Hashable

_KEPT = 10_000  # keys remembered by each table; the oldest go first


@dataclasses.dataclass
class _Record:
    failures: int
    last: float


class Throttle:
    """Failures by key: the first few are free, after each further one the wait doubles.

    Not thread-safe; the caller holds a lock. Times are monotonic seconds, given by the caller.
    A key is forgotten `memory` seconds after its last failure.
    """

    def __init__(self, *, free: int, longest: float, memory: float = 900.0) -> None:
        self._free = free
        self._longest = longest
        self._memory = memory
        self._records: collections.OrderedDict[Hashable, _Record] = collections.OrderedDict()

    def wait(self, key: Hashable, now: float) -> float:
        """Return how many seconds `key` must wait before it may try; 0 when it may now."""
        record = self._records.get(key)
        if record is None or record.failures < self._free:
            return 0.0
        if now - record.last > self._memory:
            return 0.0
        pause = min(self._longest, 2.0 ** min(record.failures - self._free, 30))
        return max(0.0, record.last + pause - now)

    def count(self, key: Hashable, now: float) -> None:
        """Count an attempt as a failure; `forgive` takes it back when it turns out well.

        Counting first keeps a hundred attempts at the same moment from all being free.
        """
        record = self._records.pop(key, None)
        if record is None or now - record.last > self._memory:
            record = _Record(0, now)
        record.failures += 1
        record.last = now
        self._records[key] = record
        if len(self._records) > _KEPT:
            self._records.popitem(last=False)

    def forgive(self, key: Hashable) -> None:
        """Take one failure of `key` back. The others stay: a success of somebody's own must not
        buy free guesses at other people's passwords."""
        record = self._records.get(key)
        if record is not None:
            record.failures -= 1
            if record.failures <= 0:
                del self._records[key]


class Logins:
    """Slows down failing logins by address and by user name. Not thread-safe, like `Throttle`.

    A user who has logged in from an address before waits there only for failures of this very
    pair, so that neither guesses from elsewhere nor those of a neighbour lock the user out.
    """

    def __init__(self) -> None:
        self._by_address = Throttle(free=10, longest=60.0)
        self._by_user = Throttle(free=20, longest=10.0)
        self._by_home = Throttle(free=20, longest=10.0)
        self._homes: collections.OrderedDict[Hashable, None] = collections.OrderedDict()

    def begin(self, user: bytes, address: str, now: float) -> Attempt:
        """Return an attempt. When its `wait` is not 0 it is not admitted, and counts nowhere;
        otherwise it counts as a failure until `Attempt.succeed`."""
        origin = network(address)
        home = (user, origin)
        keys: list[tuple[Throttle, Hashable]] = [(self._by_address, origin), (self._by_user, user)]
        if home in self._homes:
            keys = [(self._by_home, home)]
        wait = max(table.wait(key, now) for table, key in keys)
        if not wait:
            for table, key in keys:
                table.count(key, now)
        return Attempt(self, home, keys, wait)

    def remember(self, home: Hashable) -> None:
        """Remember that a user logged in from an address."""
        self._homes[home] = None
        self._homes.move_to_end(home)
        if len(self._homes) > _KEPT:
            self._homes.popitem(last=False)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One login on its way."""

    logins: Logins
    home: Hashable
    keys: list[tuple[Throttle, Hashable]]
    wait: float

    def succeed(self) -> None:
        """Take the attempt back from the failures, and remember where the user logs in from."""
        for table, key in self.keys:
            table.forgive(key)
        self.logins.remember(self.home)


def network(address: str) -> str:
    """Return what one party at `address` holds: the address, or the /64 network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
