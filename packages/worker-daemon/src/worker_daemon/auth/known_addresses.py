"""From which addresses users have logged in, kept over restarts in the state directory.

The file `logins` has a line for each pair of a user and an address: a hash of the user and a hash
of the pair, both made with the key in `logins.key`. So neither names nor addresses can be read from
the file alone. Both files have mode 0600 from the moment they exist.

Nothing here may keep anybody from logging in: a file that is damaged, open to others or cannot be
written is logged, and the daemon goes on with what it knows in memory.
"""

from __future__ import annotations

import collections
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import threading
from pathlib import Path

from worker_daemon import files

_log = logging.getLogger(__name__)

_KEPT = 10_000  # pairs; the one that was used longest ago goes first
_KEPT_OF_USER = 100  # so that one user with many addresses does not push out all others
_KEY_BYTES = 32
_LONGEST_FILE = 1 << 20  # bytes; 10,000 lines have 660 kB
_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{32})")


class KnownAddresses:
    """The pairs of users and addresses; every method may be called from any thread."""

    def __init__(self, directory: Path | None = None) -> None:
        """Read what an earlier process has left in `directory`; without one, keep no file."""
        self._directory = directory
        self._lock = threading.Lock()
        self._users: collections.OrderedDict[bytes, bytes] = collections.OrderedDict()
        self._counts: collections.Counter[bytes] = collections.Counter()
        self._unsaved = self._failing = False
        self._saving = threading.Lock()
        key = None if directory is None else _read_key(directory / "logins.key")
        self._key_saved = key is not None
        self._key = key or secrets.token_bytes(_KEY_BYTES)
        if directory is not None and key is not None:
            for user, pair in _read_lines(directory / "logins"):
                self._put(pair, user)

    def knows(self, user: bytes, address: str) -> bool:
        """Return whether the user has logged in from the address."""
        return self._pair(user, address) in self._users

    def add(self, user: bytes, address: str) -> None:
        """Remember that the user has logged in from the address; `save` puts it into the file."""
        pair = self._pair(user, address)
        with self._lock:
            if pair in self._users:
                self._users.move_to_end(pair)
            else:
                self._put(pair, self._digest(user))
                self._unsaved = True

    def save(self) -> None:
        """Write what is new. Waits for the disk, so the caller must not hold a lock."""
        if self._directory is None or not self._unsaved:
            return
        with self._saving:
            with self._lock:
                self._unsaved = False
                lines = [
                    b"%s %s\n" % (u.hex().encode(), p.hex().encode()) for p, u in self._items()
                ]
            try:
                self._write(self._directory, b"".join(lines))
            except OSError as error:
                self._complain(error)
            else:
                self._failing = False

    def _write(self, directory: Path, lines: bytes) -> None:
        if not self._key_saved:  # a file made with another key would say nothing
            files.write(directory / "logins.key", self._key)
            self._key_saved = True
        files.write(directory / "logins", lines)

    def _complain(self, error: OSError) -> None:
        self._unsaved = True  # the next login tries again
        if not self._failing:
            self._failing = True
            _log.warning(
                "cannot store in %s from where users log in: %s; until that works it is forgotten"
                " at the next restart",
                self._directory,
                error.strerror or error,
            )

    def _items(self) -> list[tuple[bytes, bytes]]:
        return list(self._users.items())

    def _put(self, pair: bytes, user: bytes) -> None:
        """Add a pair, and drop the oldest where there are too many."""
        self._drop(pair)
        self._users[pair] = user
        self._counts[user] += 1
        if self._counts[user] > _KEPT_OF_USER:
            self._drop(next(each for each, whose in self._users.items() if whose == user))
        if len(self._users) > _KEPT:
            self._drop(next(iter(self._users)))

    def _drop(self, pair: bytes) -> None:
        user = self._users.pop(pair, None)
        if user is not None:
            self._counts[user] -= 1
            if not self._counts[user]:
                del self._counts[user]

    def _pair(self, user: bytes, address: str) -> bytes:
        # No name has a NUL in it, so no two pairs are alike, and none is like a name.
        return self._digest(user + b"\0" + address.encode())

    def _digest(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, hashlib.sha256)[:16]


def _read_key(path: Path) -> bytes | None:
    data = _read(path)
    if data is None:
        return None
    if len(data) != _KEY_BYTES:
        _log.warning("%s is damaged; a new key is made, and known addresses are forgotten", path)
        return None
    return data


def _read_lines(path: Path) -> list[tuple[bytes, bytes]]:
    lines = (_read(path) or b"").splitlines()
    found = [match.groups() for match in map(_LINE.fullmatch, lines) if match is not None]
    if len(found) < len(lines):
        _log.warning("%s is damaged: %d lines are ignored", path, len(lines) - len(found))
    return [(bytes.fromhex(user.decode()), bytes.fromhex(pair.decode())) for user, pair in found]


def _read(path: Path) -> bytes | None:
    """Return what a file holds, None if it is not there or not to be trusted."""
    try:
        # Not blocking, because opening a FIFO would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
                _log.warning("%s is not used: others may read it, or it is not a file", path)
                return None
            return file.read(_LONGEST_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("cannot read %s: %s", path, error.strerror)
        return None
