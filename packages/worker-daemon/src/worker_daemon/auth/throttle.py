"""Slow down clients whose logins fail again and again, in limited memory."""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
from collections.abc import Hashable

from worker_daemon.auth import known_addresses

_KEPT = 10_000  # keys in each table; the oldest one is dropped first


@dataclasses.dataclass
class _Record:
    failures: int
    last: float


class Throttle:
    """Counts failures by key. The first few are free. After each further one the wait doubles.

    Not thread-safe: the caller holds a lock. The caller passes the time, in monotonic seconds.
    A key is forgotten `memory` seconds after its last failure.
    """

    def __init__(self, *, free: int, longest: float, memory: float = 900.0) -> None:
        self._free = free
        self._longest = longest
        self._memory = memory
        self._records: collections.OrderedDict[Hashable, _Record] = collections.OrderedDict()

    def wait(self, key: Hashable, now: float) -> float:
        """Return how many seconds `key` must wait before its next attempt; 0 for none."""
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
        """Count an attempt as a failure. The caller calls `forgive` if the attempt succeeds.

        If failures were counted afterwards, a hundred attempts at the same moment would be free.
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
        """Take back one failure of `key`, and keep the others.

        Otherwise an attacker with an account could log in now and then, to get free guesses at the
        passwords of others.
        """
        record = self._records.get(key)
        if record is not None:
            record.failures -= 1
            if record.failures <= 0:
                del self._records[key]


class Logins:
    """Slows down failing logins by address and by user name. Not thread-safe, like `Throttle`.

    Whether a login has to wait depends only on failures, and never on whether the user exists or
    has logged in from this address. Otherwise an attacker could find out user names. An address
    without failures may always try once, whatever was tried from other addresses.

    A user who has logged in from an address before must not be locked out there by the guesses of
    others, at the same address or elsewhere. So `begin_in_background` returns an attempt for such a
    user although the client has to wait. If the password is right, the verifier remembers the pair
    of name and password, and the next request with it need not wait. For such attempts, only
    failures of the same user at the same address count.
    """

    def __init__(self, known: known_addresses.KnownAddresses | None = None) -> None:
        self._known = known or known_addresses.KnownAddresses()
        self._by_address = Throttle(free=10, longest=60.0)
        self._by_user = Throttle(free=20, longest=10.0)
        self._by_home = Throttle(free=20, longest=10.0)

    def wait(self, user: bytes, address: str, now: float) -> float:
        """Return how many seconds a login must wait; 0 if it need not wait."""
        origin = network(address)
        if not self._by_address.has(origin, now):
            return 0.0
        return max(self._by_address.wait(origin, now), self._by_user.wait(user, now))

    def begin(self, user: bytes, address: str, now: float) -> Attempt:
        """Return an attempt. If its `wait` is not 0, it must not be made, and is not counted.

        Otherwise it counts as a failure until `Attempt.succeed` is called.
        """
        origin = network(address)
        keys: list[tuple[Throttle, Hashable]] = [(self._by_address, origin), (self._by_user, user)]
        if self._known.knows(user, origin):
            keys.append((self._by_home, (user, origin)))
        wait = self.wait(user, address, now)
        if not wait:
            for table, key in keys:
                table.count(key, now)
        return Attempt(self._known, user, origin, keys, wait)

    def begin_in_background(self, user: bytes, address: str, now: float) -> Attempt | None:
        """Return an attempt for a user who has to wait at a known address, else None.

        The response to the present request must not depend on this attempt.
        """
        origin = network(address)
        home = (user, origin)
        if not self._known.knows(user, origin) or self._by_home.wait(home, now):
            return None
        self._by_home.count(home, now)
        return Attempt(self._known, user, origin, [(self._by_home, home)], 0.0)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A login that is being verified."""

    known: known_addresses.KnownAddresses
    user: bytes
    origin: str
    keys: list[tuple[Throttle, Hashable]]
    wait: float

    def succeed(self) -> None:
        """Take the attempt back from the failures, and remember the address of the user."""
        for table, key in self.keys:
            table.forgive(key)
        self.known.add(self.user, self.origin)


def network(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, or an IPv6 /64 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
