"""The users file: a line ``NAME:HASH`` for each user, as Apache's htpasswd writes it with ``-B``.

Only bcrypt hashes are accepted (``$2b$``, ``$2y$`` and ``$2a$``). All other hashes of htpasswd can
be broken within hours when the file is stolen.

A user name can be removed and later be given to another person. A line
``#workerd-owner:NAME:NUMBER`` records how many users have had the name. Apache reads it as a
comment. The jobs of the first user have the owner NAME. If the second user was added without the
jobs of the first, the jobs of the second user have the owner NAME:2. A name cannot contain a colon,
so that no user is called NAME:2.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from worker_daemon import errors, files

DEFAULT_COST = 12
MAX_COST = 16  # 5 s per login; a higher cost could stop the daemon
MAX_PASSWORD = 72  # bytes; bcrypt ignores any further ones
MIN_PASSWORD = 8  # characters of a new password; NIST SP 800-63B recommends this minimum

_CURE = (
    "set a new password with `workerd user passwd`, or take the line out with `workerd user remove`"
)
_TWICE = f"is there twice; {_CURE}"
_MARK = "#workerd-owner:"
_OWNER = re.compile(rf"{_MARK}([^:]+):([1-9]\d{{0,5}})")
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")


def load(path: Path) -> tuple[dict[str, bytes], os.stat_result]:
    """Return the hash of each user, and the file's status from before it was read.

    Raises UsersError with all faults of the file and their cures.
    """
    text, status = _read(path)
    entries, faults = parse(text)
    if faults:
        raise errors.UsersError("\n".join(f"{path}: {fault}" for fault in faults))
    return entries, status


def load_owners(path: Path) -> tuple[dict[str, bytes], dict[str, int], os.stat_result]:
    """Return the hash of each user, how many users each name has had, and the file's status.

    A name that is missing in the second dict has had at most one user.
    """
    text, status = _read(path)
    entries, faults = parse(text)
    if faults:
        raise errors.UsersError("\n".join(f"{path}: {fault}" for fault in faults))
    return entries, _owners(text), status


def named(path: Path) -> set[str]:
    """Return the names of all users in the file, also of users whose lines have faults.

    Raises UsersError when the file cannot be read.
    """
    return set(_hashes(_read(path)[0]))


def parse(text: str) -> tuple[dict[str, bytes], list[str]]:
    """Return the hash of each user in `text`, and the faults of its other lines."""
    entries: dict[str, bytes] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        name, hashed = _entry(line)
        if line.startswith(_MARK) and not _OWNER.fullmatch(line):
            faults.append(f"line {number}: must be {_MARK}NAME:NUMBER; put that right")
        if name is None:
            continue
        fault = name_fault(name) or (_TWICE if name in entries else _hash_fault(hashed))
        if fault:
            faults.append(f"line {number}: {name!r} {fault}")
        else:
            entries[name] = hashed.encode()
    return entries, faults


def _hashes(text: str) -> dict[str, str]:
    return {name: hashed for name, hashed in map(_entry, text.splitlines()) if name}


def _owners(text: str) -> dict[str, int]:
    found = map(_OWNER.fullmatch, text.splitlines())
    return {match[1]: int(match[2]) for match in found if match is not None}


def _entry(line: str) -> tuple[str | None, str]:
    line = line.strip()
    if not line or line.startswith("#"):
        return None, ""
    name, _, hashed = line.partition(":")
    return name, hashed


def _hash_fault(hashed: str) -> str | None:
    match = _HASH.fullmatch(hashed)
    if match is None:
        return f"has no bcrypt hash; {_CURE}"
    if not 4 <= int(match[1]) <= MAX_COST:
        return f"has a hash of cost {match[1]}; the highest allowed is {MAX_COST}; {_CURE}"
    return None


def name_fault(name: str) -> str | None:
    """Return why `name` cannot be the name of a user, None if it can."""
    if not name or name != name.strip():
        return "is not a user name: it is empty, or has spaces around it"
    if ":" in name or name.startswith("#"):
        return "is not a user name: it has a colon in it, or a # in front"
    try:
        name.encode()
    except UnicodeEncodeError:  # arguments that are not UTF-8 contain surrogates
        return "is not a user name: it is not UTF-8 text"
    if not name.isprintable():
        return "is not a user name: it has control characters in it"
    if len(name.encode()) > 255:
        return "is not a user name: it is longer than 255 bytes"
    return None


def password_fault(password: bytes) -> str | None:
    """Return why `password` cannot be a password, None if it can."""
    if not password:
        return "the password is empty"
    if len(password) > MAX_PASSWORD:
        return f"the password has {len(password)} bytes; bcrypt takes at most {MAX_PASSWORD}"
    if b"\0" in password:
        return "the password has a NUL byte in it"
    return None


def new_password_fault(password: bytes) -> str | None:
    """Return why `password` cannot be a new password, None if it can.

    Passwords that users have already are not checked again.
    """
    if fault := password_fault(password):
        return fault
    length = len(password.decode("utf-8", "surrogateescape"))
    if length < MIN_PASSWORD:
        return (
            f"the password has {length} character{'s' * (length != 1)}; choose one with at least "
            f"{MIN_PASSWORD}"
        )
    return None


def hash_password(password: bytes, cost: int = DEFAULT_COST) -> str:
    """Return the bcrypt hash of `password`; raises UsersError if it cannot be a password."""
    import bcrypt

    if fault := password_fault(password):
        raise errors.UsersError(fault)
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()


class Entries(dict[str, str]):
    """The hashes of the users by name. `owners` is how many users each name has had."""

    owners: dict[str, int]


@contextlib.contextmanager
def editing(path: Path) -> Iterator[Entries]:
    """Yield the users as a dict, which the caller changes, and write it back if no error occurs.

    Other lines of the file are kept. Other editors wait until this one has finished. Readers see
    either the old file or the complete new one. A new file has mode 0600; an existing one keeps its
    owner and mode. Raises UsersError when the file cannot be used or written.
    """
    with _locked(path):
        text = _read(path)[0] if path.exists() else ""
        before = _hashes(text)
        after = Entries(before)
        after.owners = _owners(text)
        yield after
        if after != before or after.owners != _owners(text):
            _write(path, _changed(text, after))


def _changed(text: str, entries: Entries) -> str:
    """Return `text` with the users of `entries` instead of its own; other lines are kept."""
    left = dict(entries)
    lines = []
    for line in text.splitlines():
        name = _entry(line)[0]
        if _OWNER.fullmatch(line):
            continue
        if name is None:
            lines.append(line)
        elif name in left:
            lines.append(f"{name}:{left.pop(name)}")
    lines += [f"{name}:{hashed}" for name, hashed in left.items()]
    lines += [f"{_MARK}{name}:{number}" for name, number in entries.owners.items()]
    return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The directory is locked, because a lock on the file would be lost when it is replaced.
    with contextlib.ExitStack() as stack:
        with _writing(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.UsersError(f"cannot write {path}: {error.strerror}") from None


def _read(path: Path) -> tuple[str, os.stat_result]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if fault := _mode_fault(path, status.st_mode):
                raise errors.UsersError(fault)
            return file.read().decode(), status
    except FileNotFoundError:
        raise errors.UsersError(
            f"there is no users file {path}; `workerd user add NAME` makes it"
        ) from None
    except OSError as error:
        raise errors.UsersError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise errors.UsersError(f"cannot read {path}: it is not UTF-8 text") from None


def _mode_fault(path: Path, mode: int) -> str | None:
    if not stat.S_ISREG(mode):
        return f"cannot use {path}: it is not a file"
    if mode & 0o027:
        return f"cannot use {path}: others may read or change it; `chmod g-wx,o= {path}`"
    return None


def _write(path: Path, text: str) -> None:
    with _writing(path):
        files.write(path, text.encode(), keep_owner=True)
