"""Whose rights the jobs of a user have: the settings `run_as`, `run_as_default`, `supervisor`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_daemon import config


def of(settings: config.Config, user: str) -> str | None:
    """Return the Unix account of a user's jobs; None is the account of workerd itself."""
    return settings.run_as.get(user, settings.run_as_default)


def faults(settings: config.Config) -> list[str]:
    """Return why jobs cannot run as the accounts that are named."""
    named = [(f"run_as.{user}", name) for user, name in settings.run_as.items()]
    if settings.run_as_default is not None:
        named.insert(0, ("run_as_default", settings.run_as_default))
    found = [fault for where, name in named for fault in _faults(settings, where, name)]
    if settings.run_as and settings.run_as_default is None and _own_root(settings):
        found.append(
            "run_as names not everybody, and workerd runs as root: who is not named would be root; "
            "set run_as_default"
        )
    return found


def warnings(settings: config.Config) -> list[str]:
    """Return what works, but gives jobs other rights than was perhaps meant."""
    if settings.supervisor == "service" and not settings.no_new_privileges:
        cure = "add --allow-new-privileges to its ExecStart"
        return [f"no_new_privileges is in the hands of the supervisor's service: {cure}"]
    if _own_root(settings) and not settings.run_as and settings.run_as_default is None:
        return ["workerd runs as root, and so do all jobs; set run_as_default"]
    return []


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
    elif settings.supervisor == "own" and os.geteuid() not in (0, uid):
        yield (
            f"{where}: jobs cannot run as {name}, because the supervisor that workerd starts has "
            'its rights only; start worker-supervisor.service and set supervisor = "service"'
        )
