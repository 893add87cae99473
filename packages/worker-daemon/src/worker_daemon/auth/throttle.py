"""Slows down whoever keeps failing, in bounded memory."""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
from collections.abc import Hashable

from worker_daemon.auth import known_addresses

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

    def has(self, key: Hashable, now: float) -> bool:
        """Return whether a failure of `key` is remembered."""
        record = self._records.get(key)
        return record is not None and now - record.last <= self._memory

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

    Whether a name has to wait depends on failures only, never on whether a user has that name or
    logs in from this address: otherwise names could be guessed by who has to wait. An address
    without failures may always try once, whatever was tried elsewhere.

    A user who has logged in from an address before must not be locked out there, neither by guesses
    from elsewhere nor by those of a neighbour. So `begin_unheard` lets such a user's password be
    verified although the answer is that the client has to wait. If it is right, the pair of name
    and password is remembered, and the next request with it need not wait. Only failures of this
    very pair of user and address count there.
    """

    def __init__(self, known: known_addresses.KnownAddresses | None = None) -> None:
        self._known = known or known_addresses.KnownAddresses()
        self._by_address = Throttle(free=10, longest=60.0)
        self._by_user = Throttle(free=20, longest=10.0)
        self._by_home = Throttle(free=20, longest=10.0)

    def wait(self, user: bytes, address: str, now: float) -> float:
        """Return how many seconds a login must wait; 0 when it may be tried now."""
        origin = network(address)
        if not self._by_address.has(origin, now):
            return 0.0
        return max(self._by_address.wait(origin, now), self._by_user.wait(user, now))

    def begin(self, user: bytes, address: str, now: float) -> Attempt:
        """Return an attempt. When its `wait` is not 0 it is not admitted, and counts nowhere;
        otherwise it counts as a failure until `Attempt.succeed`."""
        origin = network(address)
        keys: list[tuple[Throttle, Hashable]] = [(self._by_address, origin), (self._by_user, user)]
        if self._known.knows(user, origin):
            keys.append((self._by_home, (user, origin)))
        wait = self.wait(user, address, now)
        if not wait:
            for table, key in keys:
                table.count(key, now)
        return Attempt(self._known, user, origin, keys, wait)

    def begin_unheard(self, user: bytes, address: str, now: float) -> Attempt | None:
        """Return an attempt for somebody who has to wait, None for all but those described above.

        The client must not learn of it, nor what became of it, before it asks again.
        """
        origin = network(address)
        home = (user, origin)
        if not self._known.knows(user, origin) or self._by_home.wait(home, now):
            return None
        self._by_home.count(home, now)
        return Attempt(self._known, user, origin, [(self._by_home, home)], 0.0)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One login that is being verified."""

    known: known_addresses.KnownAddresses
    user: bytes
    origin: str
    keys: list[tuple[Throttle, Hashable]]
    wait: float

    def succeed(self) -> None:
        """Take the attempt back from the failures, and remember where the user logs in from."""
        for table, key in self.keys:
            table.forgive(key)
        self.known.add(self.user, self.origin)


def network(address: str) -> str:
    """Return what one party at `address` holds: the address, or the /64 network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
