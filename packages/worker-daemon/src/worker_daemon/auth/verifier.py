"""Verify passwords against the users file.

bcrypt is slow on purpose. These rules keep the daemon and its users from being slow:

* a verified pair of name and password is remembered, under an HMAC with a key that only this
  process has, until the file changes (which is seen within 0.1 s) or an hour has passed;
* requests with the same pair share one verification, and few verifications run at a time;
* logins that fail again and again have to wait, by address and by name. A remembered pair never
  has to wait. When a user has to wait at an address from which the user has logged in before, the
  password is verified in the background, so that the next request is accepted if the password is
  right (see `throttle.Logins`);
* verifying the password of a user who does not exist takes as long as that of one who does.
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
_WAITING = 16  # verifications that run or wait; further logins are refused for a moment
_BACKGROUND = 4  # further verifications, in the background
# Requests that wait for the verification of another request with the same name and password: at
# addresses from which that user has logged in before, and at all others.
_SHARING_KNOWN = 192
_SHARING = 64
MOST_ASIDE = _WAITING + _SHARING_KNOWN + _SHARING  # threads that may wait for verifications
_FULL = 1.0  # seconds after which a client may try again when there are too many
# Seconds between two checks whether the file has changed, for logins that are remembered. A check
# for each request would cost too much: it releases the interpreter lock, which all threads want.
_CHECK_INTERVAL = 0.1


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of a login.

    If `retry_after` is set, the password was not verified, because too many logins have failed or
    are being verified; the client may try again after that many seconds. If the users file is not
    `usable`, no password is verified and all logins are refused. `stands` returns later, at little
    cost, whether an accepted login is still valid. `owner_of` returns the owner of a user's jobs.
    """

    accepted: bool
    retry_after: float | None = None
    usable: bool = True
    owner_of: Callable[[str], str] = dataclasses.field(default=str, compare=False, repr=False)
    stands: Callable[[], bool] = dataclasses.field(default=lambda: True, compare=False, repr=False)


_REFUSED = Verdict(accepted=False)
_UNUSABLE = Verdict(accepted=False, usable=False)


class _Snapshot:
    """The content of the users file at one moment, and the pairs that were verified against it."""

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
        self.in_background: set[bytes] = set()  # pairs that are verified in the background
        self.addresses: set[tuple[bytes, str]] = set()  # verified pairs with their addresses
        self._entries = entries or {}
        usual = b"$2b$%02d$" % htpasswd.DEFAULT_COST
        self._dummies = sorted(b"$2b$" + h[4:7] for h in self._entries.values()) or [usual]

    def hash_for(self, user: str, choice: bytes) -> bytes:
        """Return the user's hash, or for an unknown name one that no password has.

        It costs as much as the hash of a real user, and is always the same for the same name.
        """
        dummy = self._dummies[int.from_bytes(choice[:8], "big") % len(self._dummies)]
        return self._entries.get(user, dummy + b"." * 53)

    def owner_of(self, name: str) -> str:
        """Return the owner of a user's jobs; NAME:1 is the first user of a name."""
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
    """Verifies the passwords of the users in a file. Any thread may call any method."""

    def __init__(
        self,
        path: Path,
        *,
        known: known_addresses.KnownAddresses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file; raises UsersError if it cannot be used.

        `known` has the addresses from which users have logged in; by default only in memory.
        """
        self.path = path
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._next_check = 0.0  # when to check again whether the file has changed
        self._known = known or known_addresses.KnownAddresses()
        self._logins = throttle.Logins(self._known)
        # Called in the thread that will wait.
        self.before_waiting: Callable[[], object] = lambda: None
        self._sharing = {
            True: threading.BoundedSemaphore(_SHARING_KNOWN),  # at known addresses of the user
            False: threading.BoundedSemaphore(_SHARING),
        }
        self._slots = threading.BoundedSemaphore(max(1, (os.cpu_count() or 2) // 2))
        entries, owners, status = htpasswd.load_owners(path)
        self._snapshot = _Snapshot(_stamp(status), entries, owners)

    def verify(self, user: str, password: bytes, address: str) -> Verdict:
        """Return whether `password` is that of `user`; the request comes from the IP `address`.

        Takes microseconds for a remembered pair, and as long as bcrypt for any other, whether the
        user exists or not. Notices when the file has changed. While the file cannot be used, all
        logins are refused.
        """
        if htpasswd.name_fault(user) or htpasswd.password_fault(password):
            return _REFUSED
        pair = self._digest(user.encode(), password)
        now = self._clock()
        seen = self._snapshot  # without the lock, for which the threads of all requests would wait
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
                self._begin_in_background(snapshot, user, password, address)
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
        """Store the address of a user whose password was verified at another address."""
        if len(snapshot.addresses) >= _REMEMBERED:
            snapshot.addresses.clear()
        snapshot.addresses.add((pair, address))
        self._known.add(user.encode(), throttle.network(address))
        self._known.save()

    def _wait(self, snapshot: _Snapshot, name: bytes, address: str, now: float) -> float:
        wait = self._logins.wait(name, address, now)
        return wait or (_FULL if len(snapshot.running) >= _WAITING else 0.0)

    def _begin_in_background(
        self, snapshot: _Snapshot, user: str, password: bytes, address: str
    ) -> None:
        """Verify the password of a user at a known address in the background."""
        pair = self._digest(user.encode(), password)
        if pair in snapshot.in_background or len(snapshot.in_background) >= _BACKGROUND:
            return
        attempt = self._logins.begin_in_background(user.encode(), address, self._clock())
        if attempt is None:
            return

        def verify() -> None:
            verdict = _REFUSED
            try:
                verdict = self._verdict(snapshot, user, password)
            finally:
                self._conclude(snapshot, pair, attempt, verdict)
                snapshot.in_background.discard(pair)

        snapshot.in_background.add(pair)
        try:
            threading.Thread(target=verify, name="worker-login", daemon=True).start()
        except RuntimeError as error:  # the machine is short of threads
            snapshot.in_background.discard(pair)
            _log.error("cannot start a thread: %s", error)

    def _verdict(self, snapshot: _Snapshot, user: str, password: bytes) -> Verdict:
        hashed = snapshot.hash_for(user, self._digest(user.encode()))
        if not self._matches(hashed, password):
            return _REFUSED
        stands = functools.partial(self._stands, user, hashed)
        return Verdict(accepted=True, owner_of=snapshot.owner_of, stands=stands)

    def reload(self, path: Path) -> None:
        """Read the file at `path`, also if it does not look changed."""
        with self._lock:
            self.path = path
            self._snapshot = self._load()

    def _stands(self, user: str, hashed: bytes) -> bool:
        """Return whether the user still has the hash with which the login was verified.

        While the file cannot be used, this is not known, and the responses go on.
        """
        snapshot = self._snapshot
        if not self._unchanged(snapshot, self._clock()):
            with self._lock:
                snapshot = self._current()
        return not snapshot.usable or snapshot.holds(user, hashed)

    def _unchanged(self, seen: _Snapshot, now: float) -> bool:
        """Return whether the file is unchanged, by a check that is at most 0.1 s old."""
        if now >= self._next_check:
            if _stamp_of(self.path) != seen.stamp:
                return False
            self._next_check = now + _CHECK_INTERVAL
        return True

    def _matches(self, hashed: bytes, password: bytes) -> bool:
        with self._slots:
            try:
                return bcrypt.checkpw(password, hashed)
            except ValueError:  # it looks like a hash, but has an invalid salt
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
        # The parts contain no NUL, so that different parts give different texts.
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
    # With the mode, because a chmod can make the file usable, or unusable.
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


def _stamp_of(path: Path) -> object:
    try:
        return _stamp(path.stat())
    except OSError as error:
        return error.errno
