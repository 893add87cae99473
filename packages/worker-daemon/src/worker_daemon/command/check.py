"""`workerd check`: everything that is wrong with the settings, at once.

The same faults stop `workerd` before it starts anything. Whether the port is free is not looked at:
mostly this runs beside the workerd that has it, or systemd has it for the service, and neither can
be told from a stranger here. `workerd` itself says so at its start, before it has made anything.
"""

from __future__ import annotations

import datetime
import ipaddress
import math
import os
from collections.abc import Collection, Iterable

import worker_core

from worker_daemon import certificate, errors
from worker_daemon.auth import htpasswd
from worker_daemon.edge import listeners, tls
from worker_daemon.settings import config, limits, run_as

_SOON = datetime.timedelta(days=30)


def faults(settings: config.Config, broken: Collection[str] = ()) -> list[str]:
    """Return what makes it impossible to serve with `settings`, each fault a sentence.

    What rests on one of the `broken` settings, which could not be read, is left out.
    """
    fault = worker_core.proc_fault()
    found: list[str] = [] if fault is None else [f"cannot run jobs: {fault}"]
    for step, rests_on in (
        (_certificate, {"cert", "key", "client_ca", "tls_min_version"}),
        (_address, {"listen", "cert"}),
        (_users, {"users"}),
        (_state_dir, {"state_dir"}),
        (run_as.faults, {"run_as", "run_as_default", "supervisor", "state_dir"}),
    ):
        if rests_on & set(broken):
            continue
        try:
            found += step(settings)
        except errors.DaemonError as error:
            found += str(error).splitlines()
    return found


def warnings(settings: config.Config) -> list[str]:
    """Return what works, but hardly as it was meant; expects that there are no faults."""
    found = [*settings.warnings]
    now = datetime.datetime.now(datetime.UTC)
    first, last = certificate.validity(certificate.load(settings.cert)[0])
    if first > now:
        found.append(
            f"{settings.cert} is valid from {first:%Y-%m-%d %H:%M} UTC only; is the clock right?"
        )
    if last - now < _SOON:
        found.append(f"{settings.cert} expires on {last:%Y-%m-%d}")
    known = set(htpasswd.load(settings.users)[0])
    if strangers := set(settings.admins) - known:
        found.append(f"admins who are no users: {', '.join(sorted(strangers))}")
    for name, users in (("run_as", settings.run_as), ("limits", settings.limits.users)):
        if strangers := set(users) - known:
            found.append(f"{name} names who is no user: {', '.join(sorted(strangers))}")
    return found + unenforceable(settings.limits) + run_as.warnings(settings, known)


def unenforceable(limits: limits.LimitPolicy) -> list[str]:
    """Return what is in `limits` that no supervisor on this machine can enforce."""
    import worker_core

    asked = {
        name.partition(".")[0]
        for each in (limits.everybody, *map(limits.of, limits.users))
        for name, value in (*each.default.items(), *each.most.items())
        if math.isfinite(value) and not each.best_effort
    }
    missing = [name for name in worker_core.without_controller() if name in asked]
    if not missing:
        return []
    lacking = f"limits: this machine has no cgroup v2 controller for {', '.join(missing)}"
    cure = "systemd.unified_cgroup_hierarchy=1, or set best_effort = true in [limits.default]"
    return [f"{lacking}, and jobs with such a limit are refused; boot with {cure}"]


def exposure(settings: config.Config, addresses: Iterable[str]) -> list[str]:
    """Return the fault of serving a published key on `addresses`, unless all are loopback."""
    exposed = [each for each in addresses if not _is_loopback(each)]
    if not exposed or not settings.cert.exists() or not certificate.is_published(settings.cert):
        return []
    where = ", ".join(exposed)
    cure = "`workerd init` makes one that only this machine has"
    return [
        f"cannot serve {settings.cert} on {where}: everybody has its key, for development; {cure}"
    ]


def _is_loopback(text: str) -> bool:
    """Return whether an IP address is loopback, also as an IPv4 address in the form of IPv6."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _certificate(settings: config.Config) -> list[str]:
    if found := tls.faults(settings):
        return found
    _, last = certificate.validity(certificate.load(settings.cert)[0])
    if last > datetime.datetime.now(datetime.UTC):
        return []
    return [f"{settings.cert} expired on {last:%Y-%m-%d}; no client would accept it"]


def _address(settings: config.Config) -> list[str]:
    return exposure(settings, listeners.resolve(settings.listen))


def _users(settings: config.Config) -> list[str]:
    htpasswd.load(settings.users)
    return []


def _state_dir(settings: config.Config) -> list[str]:
    """The directory is made by the engine; here it only must be possible."""
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
