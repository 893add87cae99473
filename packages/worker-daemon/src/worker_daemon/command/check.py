"""`workerd check`: everything that is wrong with the configuration, all of it at once.

The same faults stop `workerd` before it starts anything. Only `check` also tests whether the
address can be listened on: `workerd` itself finds that out when it listens.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import math
import os
from collections.abc import Collection, Iterable

import worker_core

from worker_daemon import certificate, errors
from worker_daemon.auth import htpasswd
from worker_daemon.edge import listeners
from worker_daemon.edge.tls import contexts
from worker_daemon.settings import config, limits, run_as

_SOON = datetime.timedelta(days=30)


def faults(settings: config.Config, broken: Collection[str] = ()) -> list[str]:
    """Return what makes it impossible to serve with `settings`, each fault a sentence.

    The `broken` settings could not be read, and have their defaults here. Nothing is reported that
    may be a consequence of that.
    """
    fault = worker_core.proc_fault()
    found: list[str] = [] if fault is None else [f"cannot run jobs: {fault}"]
    for step, depends_on in (
        (contexts.faults, {"cert", "key"}),
        (_expiry, {"cert"}),
        (_address, {"listen", "cert"}),
        (_users, {"users"}),
        (_state_dir, {"state_dir"}),
        (functools.partial(run_as.faults, broken=broken), set()),
    ):
        if depends_on & set(broken):
            continue
        try:
            found += step(settings)
        except errors.DaemonError as error:
            found += str(error).splitlines()
    return found


def warnings(settings: config.Config) -> list[str]:
    """Return what works, but probably not as intended; expects that there are no faults."""
    found = [*settings.warnings]
    now = datetime.datetime.now(datetime.UTC)
    first, last = certificate.validity(certificate.load(settings.cert)[0])
    if first > now:
        found.append(
            f"{settings.cert} is not valid before {first:%Y-%m-%d %H:%M} UTC; check the clock of"
            " this machine"
        )
    if last - now < _SOON:
        found.append(f"{settings.cert} expires on {last:%Y-%m-%d}")
    known = set(htpasswd.load(settings.users)[0])
    if not known:
        found.append(
            f"there is no user in {settings.users}, so that nobody can log in; `workerd user add"
            " NAME` adds one"
        )
    if strangers := set(settings.admins) - known:
        found.append(f"admins not in the users file: {', '.join(sorted(strangers))}")
    per_user = (
        ("run_as", settings.run_as),
        ("limits", settings.limits.users),
        ("shares", settings.shares),
    )
    for name, users in per_user:
        if strangers := set(users) - known:
            found.append(f"{name}: unknown users: {', '.join(sorted(strangers))}")
    return found + unenforceable(settings.limits) + run_as.warnings(settings, known)


def unenforceable(limits: limits.LimitPolicy) -> list[str]:
    """Return a warning of the limits that no supervisor on this machine can enforce."""
    import worker_core

    wanted = {
        name.partition(".")[0]
        for each in (limits.everybody, *map(limits.of, limits.users))
        for name, value in (*each.default.items(), *each.most.items())
        if math.isfinite(value) and not each.best_effort
    }
    missing = [name for name in worker_core.without_controller() if name in wanted]
    if not missing:
        return []
    lacking = f"limits: this machine has no cgroup v2 controller for {', '.join(missing)}"
    cure = "systemd.unified_cgroup_hierarchy=1, or set best_effort = true in [limits.default]"
    return [f"{lacking}, and jobs with such a limit are refused; boot with {cure}"]


def exposure(settings: config.Config, addresses: Iterable[str]) -> list[str]:
    """Return the fault of using a published key on `addresses`, unless all are loopback."""
    exposed = [each for each in addresses if not _is_loopback(each)]
    if not exposed or not settings.cert.exists() or not certificate.is_published(settings.cert):
        return []
    where = ", ".join(exposed)
    cure = "`workerd init` makes one that only this machine has"
    return [
        f"cannot serve {settings.cert} on {where}: its key is published, for development; {cure}"
    ]


def _is_loopback(text: str) -> bool:
    """Return whether an IP address is loopback, also as an IPv4 address in the form of IPv6."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _expiry(settings: config.Config) -> list[str]:
    try:
        first_certificate = certificate.load(settings.cert)[0]
    except (OSError, IndexError):  # another fault
        return []
    _, last = certificate.validity(first_certificate)
    if last > datetime.datetime.now(datetime.UTC):
        return []
    return [f"{settings.cert} expired on {last:%Y-%m-%d}; no client would accept it"]


def _address(settings: config.Config) -> list[str]:
    return exposure(settings, listeners.resolve(settings.listen))


def _users(settings: config.Config) -> list[str]:
    htpasswd.load(settings.users)
    return []


def _state_dir(settings: config.Config) -> list[str]:
    """Return why the engine could not make or use the directory."""
    path = settings.state_dir
    try:
        nearest = next(p for p in (path, *path.parents) if p.exists())
    except PermissionError as error:
        return [f"cannot keep jobs in {path}: {error.strerror}"]
    if not nearest.is_dir():
        return [f"cannot keep jobs in {path}: {nearest} is not a directory"]
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        return [f"cannot keep jobs in {path}: its file system is mounted read-only"]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"cannot keep jobs in {path}: {nearest} is not writable for this user"]
    return []
