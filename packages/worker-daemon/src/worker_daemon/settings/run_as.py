"""Whose rights the jobs of a user have: the settings `run_as`, `run_as_default`, `supervisor`."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_daemon.settings import config


def of(settings: config.Config, user: str) -> str | None:
    """Return the Unix account of a user's jobs; None is the account of workerd itself."""
    return settings.run_as.get(user, settings.run_as_default)


def faults(settings: config.Config) -> list[str]:
    """Return why jobs cannot run as the accounts that are named, or must not."""
    named = _named(settings)
    found = [fault for where, name in named for fault in _faults(settings, where, name)]
    if settings.run_as_default is None and settings.supervisor == "service":
        found.append(
            'run_as_default is missing, and supervisor is "service": the jobs of users whom run_as'
            " does not name would run as workerd's own account, and could do whatever any user may;"
            " set run_as_default to an account that is only for jobs"
        )
    elif settings.run_as and settings.run_as_default is None and _own_root(settings):
        found.append(
            "run_as names not everybody, and workerd runs as root: who is not named would be root; "
            "set run_as_default"
        )
    return found


def warnings(settings: config.Config, users: Collection[str] = ()) -> list[str]:
    """Return what works, but gives jobs other rights than was perhaps meant."""
    found = []
    if settings.supervisor == "service" and not settings.no_new_privileges:
        cure = "add --allow-new-privileges to its ExecStart"
        found.append(f"no_new_privileges is in the hands of the supervisor's service: {cure}")
    if settings.supervisor == "service":
        for where, name in _named(settings):
            found += _secrets(settings, where, name)
        found += _unlisted(settings)
    elif _own_root(settings):
        if not settings.run_as and settings.run_as_default is None:
            found.append("workerd runs as root, and so do all jobs; set run_as_default")
    elif len(users) > 1:
        found.append(
            f"the jobs of all {len(users)} users run as the account of workerd, so that every user"
            " can read and end the jobs of the others; to give users accounts of their own, start"
            ' worker-supervisor.service, and set supervisor = "service" and run_as_default'
        )
    return found


def _named(settings: config.Config) -> list[tuple[str, str]]:
    """Return each account that is named, after the name of the setting."""
    named = [(f"run_as.{user}", name) for user, name in settings.run_as.items()]
    if settings.run_as_default is not None:
        named.insert(0, ("run_as_default", settings.run_as_default))
    return named


def _unlisted(settings: config.Config) -> list[str]:
    """Return which accounts root's supervisor will refuse, by the list that its unit names."""
    path = settings.users.with_name("accounts")
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return [
            (
                f"{path} is missing, in which root lists the accounts of jobs for "
                "worker-supervisor; write one account on each line, or have its unit name "
                "them (--accounts)"
            )
        ]
    except (OSError, ValueError) as error:
        return [f"cannot read {path}: {error}"]
    listed = {line.partition("#")[0].strip() for line in lines} | {"root"}
    return [
        f"{where}: {name} is not in {path}, and worker-supervisor refuses its jobs; add it, and"
        " `systemctl reload worker-supervisor`"
        for where, name in _named(settings)
        if name not in listed
    ]


def _own_root(settings: config.Config) -> bool:
    return settings.supervisor == "own" and os.geteuid() == 0


def _faults(settings: config.Config, where: str, name: str) -> Iterator[str]:
    try:
        uid = pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a name that none can have
        yield f"{where}: there is no account {name!r} on this machine; `useradd` makes one"
        return
    if uid == 0 and where == "run_as_default":
        yield f"{where} is {name}: root is only for users that run_as names"
    elif settings.supervisor == "service" and uid in _daemon_uids(settings):
        yield (
            f"{where} is {name}, the account of workerd itself: a job of such a user could do"
            " whatever any user may; name an account that is only for jobs"
        )
    elif settings.supervisor == "own" and os.geteuid() not in (0, uid):
        yield (
            f"{where}: jobs cannot run as {name}, because the supervisor that workerd starts has "
            'its rights only; start worker-supervisor.service and set supervisor = "service"'
        )


def _daemon_uids(settings: config.Config) -> set[int]:
    """Return whose the files of workerd are. `workerd check` may be run by root instead."""
    uids = {os.geteuid()}
    with contextlib.suppress(OSError):
        uids.add(settings.state_dir.stat().st_uid)
    return uids - {0}


def _secrets(settings: config.Config, where: str, name: str) -> Iterator[str]:
    """Yield which files of workerd an account may read that is not its own."""
    try:
        account = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return
    for path in (settings.key, settings.users):
        try:
            status = path.stat()
        except OSError:
            continue
        groups = os.getgrouplist(name, account.pw_gid)
        if status.st_mode & stat.S_IRGRP and status.st_gid in groups and account.pw_uid:
            yield (
                f"{where}: {name} is in the group of {path}, so that jobs of this account can read"
                f" that file; take {name} out of the group"
            )
