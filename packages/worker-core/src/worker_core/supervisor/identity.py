"""The Unix account that a job runs as."""

from __future__ import annotations

import functools
import logging
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

from worker_core.linux import libc
from worker_core.supervisor import rundir

log = logging.getLogger(__name__)


class AccountError(Exception):
    """A job cannot run as the account that is asked for."""


@dataclass(frozen=True)
class Account:
    """One entry of the user database, with all its groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    def use_files(self) -> None:
        """Use this account's rights on files, and root's for everything else."""
        os.setgroups(self.groups)
        libc.set_file_group(self.gid)
        libc.set_file_user(self.uid)

    def become(self) -> None:
        """Become this account for good. Runs between fork and exec, as root."""
        libc.set_file_user(0)  # the next calls need the capabilities back
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


_listed: frozenset[str] | None = None  # the accounts that jobs may run as; None: all


def allow_only(names: Iterable[str]) -> None:
    """Let `find` return only these accounts and root, about which launch.py decides."""
    global _listed  # noqa: PLW0603  # it belongs to the process, as its rights do
    _listed = frozenset(names) | {"root"}


def names_in(text: str) -> list[str]:
    """Return the accounts of `--accounts`: names with commas, or a file with one on each line.

    Raises ValueError if that file cannot be read, or if another account than root can write it.
    """
    names = _lines(text) if text.startswith("/") else text.split(",")
    return [name for each in names if (name := each.partition("#")[0].strip())]


def uids(names: Iterable[str]) -> set[int]:
    """Return the uids of accounts; log the names of accounts that do not exist."""
    known = set()
    for name in names:
        try:
            known.add(pwd.getpwnam(name).pw_uid)
        except (KeyError, ValueError):
            log.warning("--accounts: there is no account %r on this machine", name)
    return known


def _lines(path: str) -> list[str]:
    try:
        rundir.refuse_writable(path)
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 20).splitlines()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


@functools.cache
def own() -> Account:
    """Return the account of this process; raise OSError if it cannot be looked up now."""
    uid = os.geteuid()
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:  # a uid without an entry, as in some containers
        _check_descriptors()
        return Account(str(uid), uid, os.getegid(), tuple(os.getgroups()), "/", "/bin/sh")


def find(name: str) -> Account:
    """Return the account with a name; raise AccountError if a job cannot run as it.

    Raises OSError if the user database cannot be read now.
    """
    if _listed is not None and name not in _listed:
        raise AccountError(
            f"cannot run as {name}: root's supervisor may not run jobs as that account; add it to "
            "its --accounts and reload it"
        )
    try:
        found = _account(pwd.getpwnam(name))
    except KeyError:
        _check_descriptors()
        raise AccountError(f"there is no account {name} on this machine") from None
    if found.uid != os.geteuid() and os.geteuid() != 0:
        raise AccountError(
            f"cannot run as {name}: the supervisor runs as {own().name}, and only root's "
            "supervisor can run jobs as another account"
        )
    return found


def _check_descriptors() -> None:
    """Raise OSError if no descriptor is free: then the lookup finds no account at all."""
    os.close(os.open("/", os.O_PATH))


def _account(entry: pwd.struct_passwd) -> Account:
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    shell = entry.pw_shell or "/bin/sh"
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, shell)
