"""The Unix account that a job runs as."""

from __future__ import annotations

import functools
import os
import pwd
from dataclasses import dataclass

from worker_core import libc


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
        """Have this account's rights on files, and root's for everything else."""
        os.setgroups(self.groups)
        libc.set_file_group(self.gid)
        libc.set_file_user(self.uid)

    def become(self) -> None:
        """Be this account for good. Runs between fork and exec, as root."""
        libc.set_file_user(0)  # setgroups and the others need the capabilities back
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


@functools.cache
def own() -> Account:
    """Return the account of this process; raise OSError if it cannot be found out now."""
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
    try:
        found = _account(pwd.getpwnam(name))
    except KeyError:
        _check_descriptors()
        raise AccountError(f"there is no account {name} on this machine") from None
    if found.uid != os.geteuid() and os.geteuid() != 0:
        raise AccountError(
            f"cannot run as {name}: the supervisor runs as {own().name}, and only root's can "
            "run jobs as somebody else"
        )
    return found


def _check_descriptors() -> None:
    """Raise OSError if no descriptor is free: then nobody is found who is there."""
    os.close(os.open("/", os.O_PATH))


def _account(entry: pwd.struct_passwd) -> Account:
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    shell = entry.pw_shell or "/bin/sh"
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, shell)
