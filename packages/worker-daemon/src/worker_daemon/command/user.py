"""`workerd user`: add and remove users. A running workerd notices each change at once."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Container
from pathlib import Path

from worker_daemon import errors
from worker_daemon.auth import htpasswd


def add(
    path: Path,
    name: str,
    *,
    from_stdin: bool = False,
    cost: int = htpasswd.DEFAULT_COST,
    keep_jobs: bool | None = None,
) -> None:
    """Add the user `name` to the file at `path`, which is made if it does not exist.

    `keep_jobs` is whether the user gets the jobs of an earlier user of this name. If it is None and
    there was one, this asks at the terminal.
    """
    check_name(name)
    before = None
    if path.exists():
        entries, owners, _ = htpasswd.load_owners(path)
        before = owners.get(name)
        if name in entries:
            raise errors.UsersError(
                f"the user {name} exists; `workerd user passwd {name}` changes the password"
            )
    if keep_jobs is None:
        keep_jobs = before is None or _keeps_jobs(name, from_stdin=from_stdin)
    hashed = htpasswd.hash_password(ask(name, from_stdin=from_stdin), cost)
    with htpasswd.editing(path) as users:
        users[name] = hashed
        number = users.owners.get(name, 1)
        if not keep_jobs:
            users.owners[name] = number + 1
    _say(f"added {name} to {path}")
    if not keep_jobs:
        earlier = f"{name}:{number}"
        _say(f"{name} starts without jobs; administrators find earlier ones with ?owner={earlier}")
    elif before is not None:
        _say(
            f"{name} was a user before, and gets the jobs of that time; to start without them:"
            f" `workerd user remove {name}`, then `workerd user add --without-jobs {name}`"
        )


def _keeps_jobs(name: str, *, from_stdin: bool) -> bool:
    if from_stdin or not sys.stdin.isatty():
        return True
    _say(f"{name} was a user before. The jobs of that time are kept, and belong to this name.")
    return input(f"Give them to the new {name}? [y/N] ").strip().lower() in ("y", "yes")


def passwd(
    path: Path, name: str, *, from_stdin: bool = False, cost: int = htpasswd.DEFAULT_COST
) -> None:
    """Change the password of the user `name`; this also repairs a line without a hash."""
    _check_known(htpasswd.named(path), name)
    check_name(name)
    put(path, name, ask(name, from_stdin=from_stdin), cost)
    _say(f"changed the password of {name}")
    _say_what_is_left(path)


def put(path: Path, name: str, password: bytes, cost: int) -> None:
    """Set the password of a user in the file at `path`; adds the user if needed."""
    hashed = htpasswd.hash_password(password, cost)
    with htpasswd.editing(path) as users:
        users[name] = hashed


def remove(path: Path, name: str) -> None:
    """Remove the user `name`, but no jobs."""
    with htpasswd.editing(path) as users:
        _check_known(users, name)
        del users[name]
        users.owners.setdefault(name, 1)  # for `add`, if the name is used again
    _say(f"removed {name}; running jobs of {name} keep running, and waiting jobs still start")
    _say_what_is_left(path)


def list_(path: Path) -> None:
    """Print the names of the users, one per line."""
    for name in sorted(htpasswd.load(path)[0]):
        sys.stdout.write(f"{name}\n")


def check_name(name: str) -> None:
    """Raise UsersError if `name` cannot be the name of a user."""
    if fault := htpasswd.name_fault(name):
        raise errors.UsersError(f"{name!r} {fault}")


def _check_known(users: Container[str], name: str) -> None:
    if name not in users:
        raise errors.UsersError(f"there is no user {name!r}; `workerd user list` shows them")


def ask(name: str, *, from_stdin: bool) -> bytes:
    """Return a password for `name`, from the first line of stdin or typed twice.

    Raises UsersError if it cannot be used.
    """
    password = _from_stdin() if from_stdin else _from_terminal(name)
    if fault := htpasswd.new_password_fault(password):
        raise errors.UsersError(fault)
    return password


def _from_stdin() -> bytes:
    return sys.stdin.buffer.readline().rstrip(b"\r\n")


def _from_terminal(name: str) -> bytes:
    if not sys.stdin.isatty():
        raise errors.UsersError("there is no terminal to ask for a password; use --password-stdin")
    first = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("The same again: ") != first:
        raise errors.UsersError("the two passwords differ; nothing was changed")
    return first.encode("utf-8", "surrogateescape")


def _say_what_is_left(path: Path) -> None:
    """Print the faults of the file because of which nobody can log in."""
    try:
        htpasswd.load(path)
    except errors.UsersError as error:
        for fault in str(error).splitlines():
            _say(f"still wrong: {fault}")


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
