"""`workerd init`: make settings, a CA, a server certificate and the first user."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import grp
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from worker_daemon import errors, files
from worker_daemon.command import ca, user
from worker_daemon.settings import config, paths, units

_LOCAL = ("localhost", "127.0.0.1", "::1")
# Examples for settings without a default, and for paths, which start at the settings' directory.
_SHOWN = {
    "cert": "server.pem",
    "key": "server.key",
    "users": "users",
    "client_ca": "clients.pem",
    "run_as_default": "jobs",
}
_EVERY = ("::", "0.0.0.0")  # noqa: S104  # only to explain them, not to listen there
_TABLES = ("run_as", "shares", "limits")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `init` makes, and where."""

    directory: Path
    names: Sequence[str]  # the first is the one that clients use
    listen: units.Address
    user: str  # empty when the account that runs this has no name
    group: int | None  # may read key and users

    def path(self, name: str) -> Path:
        """Return the path of one of the files."""
        return self.directory / name


def plan(
    directory: Path | None,
    names: Sequence[str],
    listen: str,
    first_user: str | None,
    group: str | None,
    *,
    renew: bool = False,
) -> Plan:
    """Fill in what was left out. Raises DaemonError when something cannot be found out.

    With `renew`, the names default to those of the certificate that is there.
    """
    directory = _default_directory() if directory is None else directory
    try:
        address = units.address(listen)
    except ValueError as error:
        raise errors.ListenError(f"--listen {error}") from None
    try:
        directory = paths.absolute(directory)
    except ValueError as error:
        raise errors.DaemonError(f"--directory {error}") from None
    if not names:
        names = ca.names_of(directory / "server.pem") if renew else [_host_name()]
    for name in names:
        ca.check_name(name)
    return Plan(
        directory,
        list(dict.fromkeys([*names, *_LOCAL])),
        address,
        (os.environ.get("SUDO_USER") or _own_name()) if first_user is None else first_user,
        None if group is None else _group(group),
    )


def _default_directory() -> Path:
    try:
        return paths.config_dir()
    except errors.HomeError as error:
        raise errors.DaemonError(
            f"cannot tell where to write: {error}; name a --directory, or set HOME"
        ) from None


def _host_name() -> str:
    name = socket.getfqdn()
    return socket.gethostname() if name in _LOCAL else name


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no account has this uid; OSError from Python 3.13 on
        return ""


def init(wanted: Plan, *, from_stdin: bool, cost: int) -> None:
    """Make everything, and print the next steps. Nothing is overwritten.

    The password is asked for before anything is made, so that a mistake leaves nothing behind.
    """
    with _writing():
        _refuse_to_overwrite(wanted)
    if not wanted.user:
        raise errors.DaemonError(
            f"cannot tell who the first user is: uid {os.getuid()} has no account on this machine;"
            " name the user with --user NAME"
        )
    user.check_name(wanted.user)
    password = user.ask(wanted.user, from_stdin=from_stdin)
    authority = ca.Authority.create(wanted.names[0], wanted.names)
    with _writing():
        wanted.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(wanted, "ca.pem", authority.certificate, 0o644)
        _write(wanted, "ca.key", authority.key, 0o600)
        _issue(wanted, authority)
        _write(wanted, "users", b"", 0o640, shared=True)
        user.put(wanted.path("users"), wanted.user, password, cost)
        _write(wanted, "workerd.toml", _settings(wanted).encode(), 0o644)
    sys.stdout.write(_next_steps(wanted))


def renew(wanted: Plan) -> None:
    """Make a new key and certificate with the present CA, which clients already trust."""
    authority = ca.Authority.read(wanted.path("ca.pem"), wanted.path("ca.key"))
    with _writing():
        _issue(wanted, authority)
    sys.stderr.write(
        f"made a new key and certificate for {', '.join(wanted.names)}; a running workerd uses them"
        " after SIGHUP\n"
    )


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Raise DaemonError for a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise errors.DaemonError(
            f"cannot write {error.filename}: {error.strerror}; choose another --directory"
        ) from None


def _refuse_to_overwrite(wanted: Plan) -> None:
    files = ("ca.pem", "ca.key", "server.pem", "server.key", "users", "workerd.toml")
    there = [name for name in files if wanted.path(name).exists()]
    if there:
        raise errors.DaemonError(
            f"{wanted.directory} has {', '.join(there)} already, and nothing is overwritten;"
            " `workerd init --renew` makes only a new key and certificate for the server"
        )


def _issue(wanted: Plan, authority: ca.Authority) -> None:
    certificate, key = authority.issue(wanted.names)
    # The key comes first: if the second write fails, key and certificate do not match, and the
    # next start reports it.
    _write(wanted, "server.key", key, 0o640, shared=True)
    _write(wanted, "server.pem", certificate, 0o644)


def _write(wanted: Plan, name: str, content: bytes, mode: int, *, shared: bool = False) -> None:
    """Write a file of the plan. A `shared` file is readable for the group, if there is one."""
    path = wanted.path(name)
    if shared and wanted.group is None:
        mode &= ~0o077
    files.write(path, content, mode=mode, group=wanted.group if shared else None)


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise errors.DaemonError(f"there is no group {name!r}") from None


def _settings(wanted: Plan) -> str:
    """Return a settings file in which all other settings are comments with their defaults."""
    lines = ["# Settings of workerd. Remove the # in front of a line to change its default.", ""]
    needed = {"listen": f'"{wanted.listen}"', **_state_dir()}
    for name, setting in config.settings().items():
        line = f"{name} = {needed[name]}" if name in needed else f"# {name} = {example(name)}"
        lines += [f"# {setting.doc}", line, ""]
    return "\n".join(lines)


def _state_dir() -> dict[str, str]:
    """Return the setting `state_dir`, beside the settings, if it has no default."""
    try:
        paths.state_dir()
    except errors.HomeError:
        return {"state_dir": '"state"'}
    return {}


def example(name: str) -> str:
    """Return the default of a setting in TOML, or an example if it has none."""
    if name in _SHOWN:
        return f'"{_SHOWN[name]}"'
    if name in _TABLES:
        return "{}"
    read, value = config.settings()[name].read, config.default(name)
    if isinstance(value, bool | frozenset):
        return str(value).lower() if isinstance(value, bool) else "[]"
    if isinstance(read, units.Size):
        return f'"{units.size_text(value)}"'
    if isinstance(value, float):
        return f'"{units.duration_text(value)}"'
    return str(value) if isinstance(value, int) else f'"{value}"'


def _is_default(file: Path) -> bool:
    try:
        return file == paths.config_file()
    except errors.HomeError:
        return False


def _next_steps(wanted: Plan) -> str:
    name = wanted.names[0]
    url = f"https://{units.Address(name, wanted.listen.port)}"
    file = wanted.path("workerd.toml")
    every = ", every address of this machine" if wanted.listen.host in _EVERY else ""
    command = "workerd" if _is_default(file) else f"workerd --config {file}"
    return (
        f"Made settings, a CA, a certificate for {', '.join(wanted.names)} and the user"
        f" {wanted.user} in {wanted.directory}.\n"
        f"workerd will listen on {wanted.listen}{every}; `listen` in {file.name} sets it.\n"
        f"On this machine:  {command}\n"
        "On a workstation, in a clone of worker:\n"
        # An environment of its own: Debian's Python lets pip install nowhere else (PEP 668).
        "  python3 -m venv ~/worker      # Debian has it in the package python3-venv\n"
        "  ~/worker/bin/pip install packages/worker-cli\n"
        f"  scp {name}:{wanted.path('ca.pem')} worker-ca.pem\n"
        f"  ~/worker/bin/worker login {url} --cacert worker-ca.pem\n"
    )
