"""The Unix account of each user's jobs: the settings `run_as`, `run_as_default`, `supervisor`."""

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


def faults(settings: config.Config, broken: Collection[str] = ()) -> list[str]:
    """Return why jobs cannot run as the accounts that are named, or must not.

    Nothing is reported that depends on one of the `broken` settings, which could not be read.
    """
    named = _named(settings)
    found = [fault for where, name in named for fault in _unusable(where, name)]
    if "supervisor" in broken:
        return found
    if "state_dir" not in broken:
        found += [
            fault
            for where, name in _named(settings)
            for fault in _unsuitable(settings, where, name)
        ]
    if settings.run_as_default is not None or "run_as_default" in broken:
        return found
    if settings.supervisor == "service":
        found.append(
            'run_as_default is missing, and supervisor is "service": the jobs of users whom run_as'
            " does not name would run as workerd's own account, and could do whatever any user may;"
            " set run_as_default to an account that is only for jobs"
        )
    elif settings.run_as and _own_root(settings):
        found.append(
            "run_as does not name every user, and workerd runs as root: jobs of all other users"
            " would run as root; set run_as_default"
        )
    return found


def warnings(settings: config.Config, users: Collection[str] = ()) -> list[str]:
    """Return what works, but may give jobs other rights than intended."""
    found = []
    if settings.supervisor == "service" and not settings.no_new_privileges:
        cure = "add --allow-new-privileges to its ExecStart"
        found.append(
            f"no_new_privileges is ignored: the unit of worker-supervisor decides it; {cure}"
        )
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
    """Return the name of each setting that names an account, and the account."""
    named = [(f"run_as.{user}", name) for user, name in settings.run_as.items()]
    if settings.run_as_default is not None:
        named.insert(0, ("run_as_default", settings.run_as_default))
    return named


def _unlisted(settings: config.Config) -> list[str]:
    """Return a warning of each account that is not in the list of root's supervisor."""
    path = settings.users.with_name("accounts")
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return [
            (
                f"{path} is missing: worker-supervisor runs jobs only as the accounts that root"
                " lists there, one on each line; or name them in its unit (--accounts)"
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


def _unusable(where: str, name: str) -> Iterator[str]:
    """Yield why jobs cannot run as an account, whatever runs them."""
    uid = _uid(name)
    if uid is None:
        yield f"{where}: there is no account {name!r} on this machine; `useradd` makes one"
    elif uid == 0 and where == "run_as_default":
        yield f"{where} is {name}: root is only for users that run_as names"


def _unsuitable(settings: config.Config, where: str, name: str) -> Iterator[str]:
    """Yield why the supervisor that the settings choose cannot run jobs as an account."""
    uid = _uid(name)
    if uid is None or (uid == 0 and where == "run_as_default"):
        return
    if settings.supervisor == "service" and uid in _daemon_uids(settings):
        yield (
            f"{where} is {name}, the account of workerd itself: a job of such a user could do"
            " whatever any user may; name an account that is only for jobs"
        )
    elif settings.supervisor == "own" and os.geteuid() not in (0, uid):
        yield (
            f"{where}: jobs cannot run as {name}, because the supervisor that workerd starts has "
            'its rights only; start worker-supervisor.service and set supervisor = "service"'
        )


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a name that no account can have
        return None


def _daemon_uids(settings: config.Config) -> set[int]:
    """Return the uids of workerd: the owner of its files too, as root may run `workerd check`."""
    uids = {os.geteuid()}
    with contextlib.suppress(OSError):
        uids.add(settings.state_dir.stat().st_uid)
    return uids - {0}


def _secrets(settings: config.Config, where: str, name: str) -> Iterator[str]:
    """Yield which secret files of workerd another account can read."""
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
