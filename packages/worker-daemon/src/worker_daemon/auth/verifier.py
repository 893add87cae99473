"""Who may use the daemon: passwords are verified against an htpasswd file of bcrypt hashes.

bcrypt is slow on purpose. So that this burdens neither the daemon nor its users:

* a verified pair of name and password is remembered, under an HMAC with a key that only this
  process has, until the file changes (which is seen within 0.1 s) or an hour has passed;
* requests with the same pair share one verification, and few verifications run at a time;
* whoever keeps failing waits, by address and by name. A remembered pair is never made to wait.
  A user who has to wait at an address that the user has logged in from before is verified in the
  background, so that the next request with the right password is let in (see `throttle.Logins`);
* a name that nobody has costs as much as one that somebody has.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import bcrypt

from worker_daemon import errors
from worker_daemon.auth import htpasswd, known_addresses, throttle

_log = logging.getLogger(__name__)

_REMEMBERED = 4096  # pairs
_REMEMBER = 3600.0  # seconds
_WAITING = 16  # verifications at work or waiting; past that a login is asked to come back
_UNHEARD = 4  # verifications in the background, besides those
# Requests that wait for the verification of another request with the same name and password: at
# addresses from which that user has logged in before, and at all others.
_SHARING_KNOWN = 192
_SHARING = 64
MOST_ASIDE = _WAITING + _SHARING_KNOWN + _SHARING  # threads that may wait for verifications
_FULL = 1.0  # seconds that a login waits when there are so many
# Seconds between two looks at the file for those who are known. One at each request would cost more
# than its own microseconds: it gives up Python's lock, which all threads want.
_LOOK = 0.1


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer to a login.

    When `retry_after` is set, nothing was verified: too many logins failed or are being verified,
    and the client should ask again after so many seconds. Nor was anything when the file is not
    `usable`; then nobody is let in. `stands` says later on, at the price of a comparison, whether a
    login that was accepted still would be. `owner_of` returns the owner of the jobs of a user.
    """

    accepted: bool
    retry_after: float | None = None
    usable: bool = True
    owner_of: Callable[[str], str] = dataclasses.field(default=str, compare=False, repr=False)
    stands: Callable[[], bool] = dataclasses.field(default=lambda: True, compare=False, repr=False)


_REFUSED = Verdict(accepted=False)
_UNUSABLE = Verdict(accepted=False, usable=False)


class _Snapshot:
    """What the file said at one moment, and the pairs verified against exactly that."""

    def __init__(
        self,
        stamp: object,
        entries: dict[str, bytes] | None,
        owners: Mapping[str, int] = types.MappingProxyType({}),
    ) -> None:
        self.stamp = stamp
        self._owners = owners
        self.usable = entries is not None
        self.verified: collections.OrderedDict[bytes, tuple[float, Verdict]] = (
            collections.OrderedDict()
        )
        self.running: dict[bytes, concurrent.futures.Future[Verdict]] = {}
        self.unheard: set[bytes] = set()  # pairs that are verified in the background
        self.addresses: set[tuple[bytes, str]] = set()  # where verified pairs came from
        self._entries = entries or {}
        usual = b"$2b$%02d$" % htpasswd.DEFAULT_COST
        self._dummies = sorted(b"$2b$" + h[4:7] for h in self._entries.values()) or [usual]

    def hash_for(self, user: str, choice: bytes) -> bytes:
        """Return the user's hash. A stranger gets one that no password has, as costly as that of
        a real user, and always the same for the same name."""
        dummy = self._dummies[int.from_bytes(choice[:8], "big") % len(self._dummies)]
        return self._entries.get(user, dummy + b"." * 53)

    def owner_of(self, name: str) -> str:
        """Return the owner of a user's jobs; of NAME:1, those of the first user of a name."""
        if name.endswith(":1"):
            return name.removesuffix(":1")
        number = self._owners.get(name, 1)
        return name if number == 1 else f"{name}:{number}"

    def holds(self, user: str, hashed: bytes) -> bool:
        return self._entries.get(user) == hashed

    def remembered(self, pair: bytes, now: float) -> Verdict | None:
        until, verdict = self.verified.get(pair, (now, None))
        return verdict if until > now else None

    def remember(self, pair: bytes, until: float, verdict: Verdict) -> None:
        self.verified[pair] = until, verdict
        self.verified.move_to_end(pair)
        if len(self.verified) > _REMEMBERED:
            self.verified.popitem(last=False)


class Verifier:
    """The users of a file; every method may be called from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        known: known_addresses.KnownAddresses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file; raises UsersError when it cannot be used.

        `known` is where users have logged in from before; without it that is kept in memory.
        """
        self.path = path
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._look_again = 0.0  # when the file is looked at again for those who are known
        self._known = known or known_addresses.KnownAddresses()
        self._logins = throttle.Logins(self._known)
        self.before_waiting: Callable[[], object] = lambda: None  # called in the thread that waits
        self._sharing = {
            True: threading.BoundedSemaphore(_SHARING_KNOWN),  # at known addresses of the user
            False: threading.BoundedSemaphore(_SHARING),
        }
        self._slots = threading.BoundedSemaphore(max(1, (os.cpu_count() or 2) // 2))
        entries, owners, status = htpasswd.load_owners(path)
        self._snapshot = _Snapshot(_stamp(status), entries, owners)

    def verify(self, user: str, password: bytes, address: str) -> Verdict:
        """Say whether `password` is that of `user`, who asks from the IP address `address`.

        Takes microseconds for a remembered pair and as long as bcrypt takes for all others, real
        names or not. Changes of the file are noticed here; while it cannot be used, nobody is let
        in.
        """
        if htpasswd.name_fault(user) or htpasswd.password_fault(password):
            return _REFUSED
        pair = self._digest(user.encode(), password)
        now = self._clock()
        seen = self._snapshot  # without the lock, which the threads of all requests want
        known = seen.remembered(pair, now)
        if known is not None and self._unchanged(seen, now):
            if (pair, address) not in seen.addresses:
                self._remember_address(seen, pair, user, address)
            return known
        name = user.encode()
        with self._lock:
            snapshot = self._current()
            if not snapshot.usable:
                return _UNUSABLE
            now = self._clock()
            if (remembered := snapshot.remembered(pair, now)) is not None:
                return remembered
            if pair in snapshot.running:
                attempt, future = None, snapshot.running[pair]
            elif wait := self._wait(snapshot, name, address, now):
                self._begin_unheard(snapshot, user, password, address)
                return Verdict(accepted=False, retry_after=wait)
            else:
                attempt = self._logins.begin(name, address, now)
                future = snapshot.running[pair] = concurrent.futures.Future()
        if attempt is None:
            return self._share(future, name, address)
        self.before_waiting()
        verdict = _REFUSED
        try:
            verdict = self._verdict(snapshot, user, password)
        finally:  # requests that wait for the future must get an answer
            self._conclude(snapshot, pair, attempt, verdict)
            snapshot.running.pop(pair).set_result(verdict)
        self._known.save()  # after the others have their answer
        return verdict

    def _share(
        self, future: concurrent.futures.Future[Verdict], name: bytes, address: str
    ) -> Verdict:
        """Wait for the verification of another request with the same name and password.

        A client can send any number of such requests, so only some may wait; the others are
        refused at once. They must never wait in the place of a request that could be answered.
        """
        sharing = self._sharing[self._known.knows(name, throttle.network(address))]
        if not sharing.acquire(blocking=False):
            return Verdict(accepted=False, retry_after=_FULL)
        try:
            self.before_waiting()
            return future.result()
        finally:
            sharing.release()

    def _remember_address(self, snapshot: _Snapshot, pair: bytes, user: str, address: str) -> None:
        """Store the address of a user whose password was verified at another one."""
        if len(snapshot.addresses) >= _REMEMBERED:
            snapshot.addresses.clear()
        snapshot.addresses.add((pair, address))
        self._known.add(user.encode(), throttle.network(address))
        self._known.save()

    def _wait(self, snapshot: _Snapshot, name: bytes, address: str, now: float) -> float:
        wait = self._logins.wait(name, address, now)
        return wait or (_FULL if len(snapshot.running) >= _WAITING else 0.0)

    def _begin_unheard(self, snapshot: _Snapshot, user: str, password: bytes, address: str) -> None:
        """Verify in the background the password of a user whose address is known."""
        pair = self._digest(user.encode(), password)
        if pair in snapshot.unheard or len(snapshot.unheard) >= _UNHEARD:
            return
        attempt = self._logins.begin_unheard(user.encode(), address, self._clock())
        if attempt is None:
            return

        def verify() -> None:
            verdict = _REFUSED
            try:
                verdict = self._verdict(snapshot, user, password)
            finally:
                self._conclude(snapshot, pair, attempt, verdict)
                snapshot.unheard.discard(pair)

        snapshot.unheard.add(pair)
        try:
            threading.Thread(target=verify, name="worker-login", daemon=True).start()
        except RuntimeError as error:  # the machine is short of threads
            snapshot.unheard.discard(pair)
            _log.error("cannot start a thread: %s", error)

    def _verdict(self, snapshot: _Snapshot, user: str, password: bytes) -> Verdict:
        hashed = snapshot.hash_for(user, self._digest(user.encode()))
        if not self._matches(hashed, password):
            return _REFUSED
        stands = functools.partial(self._stands, user, hashed)
        return Verdict(accepted=True, owner_of=snapshot.owner_of, stands=stands)

    def reload(self, path: Path) -> None:
        """Read the file at `path`, even if nothing shows that it has changed."""
        with self._lock:
            self.path = path
            self._snapshot = self._load()

    def _stands(self, user: str, hashed: bytes) -> bool:
        """Say whether the user still has the hash that his login was verified with.

        While the file cannot be used nobody knows, and what is under way goes on.
        """
        snapshot = self._snapshot
        if not self._unchanged(snapshot, self._clock()):
            with self._lock:
                snapshot = self._current()
        return not snapshot.usable or snapshot.holds(user, hashed)

    def _unchanged(self, seen: _Snapshot, now: float) -> bool:
        """Say whether the file is as it was, from a look that is a moment old at most."""
        if now >= self._look_again:
            if _stamp_of(self.path) != seen.stamp:
                return False
            self._look_again = now + _LOOK
        return True

    def _matches(self, hashed: bytes, password: bytes) -> bool:
        with self._slots:
            try:
                return bcrypt.checkpw(password, hashed)
            except ValueError:  # it looks like a hash, but its salt is none
                _log.error("a hash in %s cannot be used: %s…", self.path, hashed[:7].decode())
                return False

    def _conclude(
        self, snapshot: _Snapshot, pair: bytes, attempt: throttle.Attempt, verdict: Verdict
    ) -> None:
        if verdict.accepted:
            with self._lock:
                attempt.succeed()
                snapshot.remember(pair, self._clock() + _REMEMBER, verdict)

    def _digest(self, *parts: bytes) -> bytes:
        # No part has a NUL in it, so joined they are as distinct as apart.
        return hmac.digest(self._secret, b"\0".join(parts), hashlib.sha256)

    def _current(self) -> _Snapshot:
        if _stamp_of(self.path) != self._snapshot.stamp:
            self._snapshot = self._load()
        return self._snapshot

    def _load(self) -> _Snapshot:
        stamp = _stamp_of(self.path)
        try:
            entries, owners, status = htpasswd.load_owners(self.path)
        except errors.UsersError as error:
            _log.error("nobody can log in: %s", error)
            return _Snapshot(stamp, None)
        _log.info("read %d users from %s", len(entries), self.path)
        return _Snapshot(_stamp(status), entries, owners)


def _stamp(status: os.stat_result) -> object:
    # The mode is in it for a chmod that cures the file, or spoils it.
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


def _stamp_of(path: Path) -> object:
    try:
        return _stamp(path.stat())
    except OSError as error:
        return error.errno
