"""The addresses from which users have logged in. They are kept in the state directory.

The file `logins` has a line for each pair of a user and an address: a hash of the user and a hash
of the pair, both made with the key in `logins.key`. So nobody can read names or addresses from that
file alone. Both files are created with mode 0600.

These files never prevent a login. If one is damaged, readable by others or cannot be written, the
daemon logs it, and continues with what it has in memory.
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

_KEPT = 10_000  # pairs; the least recently used one is dropped first
_KEPT_OF_USER = 100  # so that a user with many addresses does not displace the other users
_KEY_BYTES = 32
_LONGEST_FILE = 1 << 20  # bytes; 10,000 lines take 660 kB
_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{32})")


class KnownAddresses:
    """Pairs of users and addresses. Any thread may call any method."""

    def __init__(self, directory: Path | None = None) -> None:
        """Read the files in `directory`. Without a directory, keep the pairs only in memory."""
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
        """Remember that the user has logged in from the address; `save` writes it to the file."""
        pair = self._pair(user, address)
        with self._lock:
            if pair in self._users:
                self._users.move_to_end(pair)
            else:
                self._put(pair, self._digest(user))
                self._unsaved = True

    def save(self) -> None:
        """Write new pairs to the file. Waits for the disk, so the caller must not hold a lock."""
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
        if not self._key_saved:  # without its key the file would be useless
            files.write(directory / "logins.key", self._key)
            self._key_saved = True
        files.write(directory / "logins", lines)

    def _complain(self, error: OSError) -> None:
        self._unsaved = True  # tried again at the next login
        if not self._failing:
            self._failing = True
            _log.warning(
                "cannot store in %s the addresses from which users log in: %s; they will be"
                " forgotten at the next restart",
                self._directory,
                error.strerror or error,
            )

    def _items(self) -> list[tuple[bytes, bytes]]:
        return list(self._users.items())

    def _put(self, pair: bytes, user: bytes) -> None:
        """Add a pair. If there are too many, drop the oldest."""
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
        # Names contain no NUL, so that different pairs give different texts.
        return self._digest(user + b"\0" + address.encode())

    def _digest(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, hashlib.sha256)[:16]


def _read_key(path: Path) -> bytes | None:
    data = _read(path)
    if data is None:
        return None
    if len(data) != _KEY_BYTES:
        _log.warning(
            "%s is damaged; a new key is made, and the known addresses are forgotten", path
        )
        return None
    return data


def _read_lines(path: Path) -> list[tuple[bytes, bytes]]:
    lines = (_read(path) or b"").splitlines()
    found = [match.groups() for match in map(_LINE.fullmatch, lines) if match is not None]
    if len(found) < len(lines):
        _log.warning("%s is damaged: %d lines are ignored", path, len(lines) - len(found))
    return [(bytes.fromhex(user.decode()), bytes.fromhex(pair.decode())) for user, pair in found]


def _read(path: Path) -> bytes | None:
    """Return the content of a file, None if it is missing or cannot be trusted."""
    try:
        # Non-blocking, because opening a FIFO would wait for a writer.
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
