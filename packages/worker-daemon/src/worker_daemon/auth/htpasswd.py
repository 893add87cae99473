"""The users file: one ``NAME:HASH`` a line, as Apache's htpasswd writes it with ``-B``.

Only bcrypt hashes are taken (``$2b$``, ``$2y$`` and ``$2a$``): everything else that htpasswd can
write is broken within hours once the file is stolen.

A line ``#workerd-owner:NAME:NUMBER`` says that somebody was a user of this name before, and how
many of them there have been. It is a comment for Apache. Jobs have an owner: the first user of a
name owns those of the owner NAME, the second one those of NAME:2, if it was added so. A name cannot
have a colon in it, so that nobody can be called like that.
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
MAX_COST = 16  # 5 s a login; more would be a way to stop the daemon
MAX_PASSWORD = 72  # bytes; bcrypt sees no more than these
MIN_PASSWORD = 8  # characters of a new one, as NIST SP 800-63B has it

_CURE = (
    "set the password anew with `workerd user passwd`, or take the line out with `workerd user "
    "remove`"
)
_TWICE = f"is there twice; {_CURE}"
_MARK = "#workerd-owner:"
_OWNER = re.compile(rf"{_MARK}([^:]+):([1-9]\d{{0,5}})")
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")


def load(path: Path) -> tuple[dict[str, bytes], os.stat_result]:
    """Return the hash of each user, and the file's status from before it was read.

    Raises UsersError with all that is wrong with the file, and with what cures it.
    """
    text, status = _read(path)
    entries, faults = parse(text)
    if faults:
        raise errors.UsersError("\n".join(f"{path}: {fault}" for fault in faults))
    return entries, status


def load_owners(path: Path) -> tuple[dict[str, bytes], dict[str, int], os.stat_result]:
    """Return what `load` does, and between that how many users each name has had before and now.

    A name that is not in the second dict has had one at most.
    """
    text, status = _read(path)
    entries, faults = parse(text)
    if faults:
        raise errors.UsersError("\n".join(f"{path}: {fault}" for fault in faults))
    return entries, _owners(text), status


def named(path: Path) -> set[str]:
    """Return the names that the file has lines of, whatever else is wrong with them.

    Raises UsersError when the file cannot be read.
    """
    return set(_hashes(_read(path)[0]))


def parse(text: str) -> tuple[dict[str, bytes], list[str]]:
    """Return the hash of each user in `text`, and what is wrong with its other lines."""
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
    """Say why `name` cannot be a user's name, or return None."""
    if not name or name != name.strip():
        return "is not a user name: it is empty, or has spaces around it"
    if ":" in name or name.startswith("#"):
        return "is not a user name: it has a colon in it, or a # in front"
    try:
        name.encode()
    except UnicodeEncodeError:  # an argument's bytes are surrogates where they are no text
        return "is not a user name: it is not UTF-8 text"
    if not name.isprintable():
        return "is not a user name: it has control characters in it"
    if len(name.encode()) > 255:
        return "is not a user name: it is longer than 255 bytes"
    return None


def password_fault(password: bytes) -> str | None:
    """Say why `password` cannot be anybody's password, or return None."""
    if not password:
        return "the password is empty"
    if len(password) > MAX_PASSWORD:
        return f"the password has {len(password)} bytes; bcrypt takes at most {MAX_PASSWORD}"
    if b"\0" in password:
        return "the password has a NUL byte in it"
    return None


def new_password_fault(password: bytes) -> str | None:
    """Say why nobody is given `password`, or return None; one that a user has already may stay."""
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
    """Return the bcrypt hash of `password`; raises UsersError when it cannot be one."""
    import bcrypt

    if fault := password_fault(password):
        raise errors.UsersError(fault)
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()


class Entries(dict[str, str]):
    """The users and their hashes. `owners` is how many users each name has had: `load_owners`."""

    owners: dict[str, int]


@contextlib.contextmanager
def editing(path: Path) -> Iterator[Entries]:
    """Change the users: give a dict of names and hashes, and write it back when all went well.

    Other lines of the file stay as they are. Whoever else edits it meanwhile waits; readers see
    the old file or the new one, whole. A new file has mode 0600; an old one keeps owner and mode.
    Raises UsersError when the file cannot be used or written.
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
    """Return `text` with its users replaced by `entries`, and all other lines kept."""
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
    # The lock is on the directory: one on the file would be on the file that is replaced.
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
