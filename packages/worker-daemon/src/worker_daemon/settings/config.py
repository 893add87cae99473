"""The settings of workerd: a TOML file and command-line options make one frozen `Config`.

Every setting is declared once, in `Config`, with the function that reads it and a sentence about
it. The documentation and the file that ``workerd init`` writes are made from these declarations.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from worker_daemon import errors
from worker_daemon.settings import limits, paths, units

DEFAULT_LISTEN = units.Address("127.0.0.1", 8443)

_count = units.count


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def _choice(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(map(repr, words))}, not {value!r}")
        return str(value)

    return read


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError(f"must be the path of a file, not {value!r}")
    try:
        return paths.expanded(Path(value))
    except errors.HomeError as error:
        raise ValueError(f"cannot be {str(value)!r}: {error}") from None


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"must be a list of user names, not {value!r}")
    return frozenset(value)


def _shares(value: object) -> Mapping[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a table of users and their shares, not {value!r}")
    for user, share in value.items():
        if (
            isinstance(share, bool)
            or not isinstance(share, int | float)
            or not 0.01 <= share <= 100
        ):
            raise ValueError(f"gives {user} {share!r}; a share is a number from 0.01 to 100")
    return {user: float(share) for user, share in value.items()}


def _account(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"must be the name of a Unix account, not {value!r}")
    return value


def _accounts(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a table of users and their Unix accounts, not {value!r}")
    faults, accounts = [], {}
    for user, account in value.items():
        try:
            accounts[user] = _account(account)
        except ValueError as error:
            faults.append((f".{user}", str(error)))
    if faults:
        raise errors.SettingError(faults)
    return accounts


def _positive(value: object) -> float:
    seconds = units.duration(value)
    if not seconds:
        raise ValueError("must be longer than 0 seconds")
    return seconds


def _age(value: object) -> float | None:
    # In other settings 0 means no limit. Here it would delete every job before its result is read.
    return None if value == "forever" else units.Duration(60)(value)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a setting is read from the file or an option, and what it means.

    `old_name` is the name of the setting in the release before; it is still accepted, with a
    warning.
    """

    read: Callable[[object], Any]
    doc: str
    old_name: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings; `Config()` has the default of each."""

    listen: Annotated[
        units.Address, Setting(units.address, "Where to listen, HOST:PORT; port 0 picks one.")
    ] = DEFAULT_LISTEN
    cert: Annotated[
        Path, Setting(_path, "The server's certificate (PEM) and any intermediate ones.")
    ] = dataclasses.field(default_factory=paths.certificate)
    key: Annotated[Path, Setting(_path, "The private key of that certificate (PEM).")] = (
        dataclasses.field(default_factory=paths.key)
    )
    users: Annotated[
        Path, Setting(_path, "The users and their bcrypt hashes, in the format of htpasswd.")
    ] = dataclasses.field(default_factory=paths.users)
    state_dir: Annotated[
        Path, Setting(_path, "Where jobs, their records and their output are kept.")
    ] = dataclasses.field(default_factory=paths.state_dir)
    admins: Annotated[
        frozenset[str],
        Setting(_names, "Users who may see and kill the jobs of others, with `?owner=`."),
    ] = frozenset()
    max_running: Annotated[
        int,
        Setting(
            _count(1),
            "How many jobs run at the same time. One slot of 16 is kept for users without a "
            "running job.",
        ),
    ] = 256
    shares: Annotated[
        Mapping[str, float],
        Setting(
            _shares,
            "How slots are divided between users with waiting jobs: a share of 2 gets twice as "
            "many as a share of 1, the default.",
        ),
    ] = dataclasses.field(default_factory=dict)
    max_queued: Annotated[int, Setting(_count(0), "How many more jobs may wait; 0 for none.")] = (
        100_000
    )
    max_running_per_user: Annotated[
        int, Setting(_count(0), "How many jobs of one user run at the same time; 0 for any number.")
    ] = 0
    max_queued_per_user: Annotated[
        int, Setting(_count(0), "How many more jobs of one user may wait; 0 for any number.")
    ] = 0
    output_limit: Annotated[
        int,
        Setting(
            units.size,
            "Bytes of output kept of a job that sets no limit: the newest, and up to 64 KiB more. "
            "0 keeps all.",
        ),
    ] = 1 << 30
    keep_age: Annotated[
        float | None, Setting(_age, 'How long a finished job is kept: "7d", or "forever".')
    ] = 7 * 86400.0
    keep_count: Annotated[
        int,
        Setting(
            _count(0),
            "How many finished jobs are kept; 0 for any number. Users with the most lose theirs "
            "first.",
        ),
    ] = 0
    keep_bytes: Annotated[
        int,
        Setting(
            units.size,
            "Bytes of finished jobs that are kept: outputs, inputs and specs. 0 keeps all.",
        ),
    ] = 0
    keep_bytes_per_user: Annotated[
        int, Setting(units.size, "The same for the jobs of one user.")
    ] = 0
    no_new_privileges: Annotated[
        bool, Setting(_flag, "Jobs cannot gain privileges by executing a file, as with sudo.")
    ] = True
    threads: Annotated[
        int, Setting(_count(1), "Requests served at the same time, in addition to long ones.")
    ] = 32
    max_long_requests: Annotated[
        int,
        Setting(
            _count(1),
            "Requests that follow output or wait at the same time. The last eighth is for users "
            "who have none yet.",
            old_name="max_followers",
        ),
    ] = 640
    max_connections: Annotated[int, Setting(_count(10), "Connections open at the same time.")] = (
        4096
    )
    max_unauthenticated_per_address: Annotated[
        int,
        Setting(
            _count(1),
            "Connections without a login from one IPv4 address or IPv6 /64 at the same time; one "
            "more closes the oldest of them.",
        ),
    ] = 1024
    max_body: Annotated[
        int, Setting(units.Size(4096), "The longest body of a request, in bytes.")
    ] = 16 << 20
    max_header: Annotated[
        int, Setting(units.Size(4096), "The longest head of a request, in bytes.")
    ] = 64 << 10
    tls_min_version: Annotated[
        str, Setting(_choice("1.2", "1.3"), 'The oldest TLS version spoken: "1.3" or "1.2".')
    ] = "1.3"
    client_ca: Annotated[
        Path | None,
        Setting(_path, "A CA (PEM) that clients need a certificate from, besides a password."),
    ] = None
    handshake_timeout: Annotated[
        float, Setting(units.Duration(1), "Time for a TLS handshake, in seconds.")
    ] = 10.0
    header_timeout: Annotated[
        float, Setting(units.Duration(1), "Time to send the head of a request.")
    ] = 20.0
    body_timeout: Annotated[
        float,
        Setting(units.Duration(1), "How long a body or an answer may make no progress."),
    ] = 30.0
    idle_timeout: Annotated[
        float, Setting(units.Duration(1), "How long a connection is kept without a request.")
    ] = 75.0
    drain_timeout: Annotated[
        float, Setting(_positive, "How long requests may take after SIGTERM.")
    ] = 8.0
    log_level: Annotated[
        str,
        Setting(
            _choice("debug", "info", "warning", "error"),
            'The lowest level that is logged: "debug", "info", "warning" or "error".',
        ),
    ] = "info"
    log_format: Annotated[
        str,
        Setting(
            _choice("text", "json"),
            'Log lines as "text" for people or "json" for programs.',
        ),
    ] = "text"
    supervisor: Annotated[
        str,
        Setting(
            _choice("own", "service"),
            'What runs the jobs: a process of workerd\'s "own", or root\'s "service".',
        ),
    ] = "own"
    run_as_default: Annotated[
        str | None,
        Setting(
            _account,
            "The Unix account of jobs; by default that of workerd. It is required where root's "
            "service runs the jobs.",
        ),
    ] = None
    # Tables come last: in TOML, everything below the header of a table belongs to it.
    run_as: Annotated[
        Mapping[str, str],
        Setting(_accounts, "The Unix account of the jobs of each user. Only here may it be root."),
    ] = dataclasses.field(default_factory=dict)
    limits: Annotated[
        limits.LimitPolicy, Setting(limits.read, "What jobs may use, by default and at most.")
    ] = dataclasses.field(default_factory=limits.LimitPolicy)
    # Not settings.
    source: Path = dataclasses.field(default_factory=paths.config_file, compare=False)
    """The file of the settings; there may be none."""
    warnings: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """What was accepted in the settings, but should be changed."""


def default(name: str) -> Any:
    """Return the default of a setting; raises HomeError if it needs an unknown directory."""
    (field,) = (each for each in dataclasses.fields(Config) if each.name == name)
    if field.default_factory is dataclasses.MISSING:
        return field.default
    return field.default_factory()


@functools.cache
def settings() -> Mapping[str, Setting]:
    """Return the declarations of all settings by name, in the order of the documentation."""
    hints = typing.get_type_hints(Config, include_extras=True)
    return {
        name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")
    }


def _renamed() -> Mapping[str, str]:
    """Return the new name of each setting that has an old one, by its old name."""
    return {each.old_name: name for name, each in settings().items() if each.old_name}


def load(path: Path | None = None, flags: Mapping[str, object] | None = None) -> Config:
    """Read the settings: `flags` override the file at `path`, which overrides the defaults.

    Without `path`, the default file is read if it exists. Relative paths in the file start at its
    directory, where certificate, key and users file are by default, too. Raises ConfigError with
    all faults, not only the first.
    """
    file = path if path is not None else _default_file()
    faults: list[str] = []
    raw = _from_file(file, required=path is not None, faults=faults)
    if faults:
        raise errors.ConfigError(faults)
    warnings = _use_new_names(raw, file, faults)
    values = _read_all(raw, file, faults)
    flags = {name: value for name, value in (flags or {}).items() if value is not None}
    values.update(_read_all(flags, None, faults))
    broken = {*raw, *flags} - set(values)
    if "state_dir" not in values:
        values["state_dir"] = _default_state_dir(broken, faults)
    found = Config(**{**paths.beside(file), **values}, source=file, warnings=tuple(warnings))
    if faults:
        raise errors.ConfigError(faults, found, broken)
    return found


def _default_file() -> Path:
    try:
        return paths.config_file()
    except errors.HomeError as error:
        cure = "set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME, or name a file with --config"
        raise errors.ConfigError([f"cannot tell where the settings are: {error}; {cure}"]) from None


def _default_state_dir(broken: set[str], faults: list[str]) -> Path:
    try:
        return paths.state_dir()
    except errors.HomeError as error:
        if "state_dir" not in broken:
            cure = "set HOME or XDG_STATE_HOME, or state_dir in the settings (--state-dir)"
            faults.append(f"cannot tell where jobs are kept: {error}; {cure}")
            broken.add("state_dir")
        return Path()  # never used


def _from_file(path: Path, *, required: bool, faults: list[str]) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        if required and not path.is_absolute() and not paths.has_directory():
            faults.append(f"--config {path} {paths.NO_DIRECTORY}")
        elif required:
            faults.append(f"cannot read {path}: {error.strerror}; `workerd init` writes one")
    except OSError as error:
        faults.append(f"cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        faults.append(f"cannot read {path}: it is not UTF-8 text")
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        faults.append(f"cannot read {path}: {error}")
    return {}


def _use_new_names(raw: dict[str, object], source: Path, faults: list[str]) -> list[str]:
    """Rename in `raw` what has an old name; return a warning for each."""
    warnings = []
    for old, new in _renamed().items():
        if old not in raw:
            continue
        value = raw.pop(old)
        if new in raw:
            faults.append(f"{source}: {old} is the old name of {new}, which is set too; remove it")
            continue
        raw[new] = value
        warnings.append(
            f"{source}: {old} is now called {new}; rename it: the next release does not accept the"
            " old name"
        )
    return warnings


def _read_all(raw: Mapping[str, object], source: Path | None, faults: list[str]) -> dict[str, Any]:
    """Read the settings in `raw`; add a fault for each that cannot be read."""
    known = settings()
    values: dict[str, Any] = {}
    for name, value in raw.items():
        where = f"{source}: {name}" if source else f"--{name.replace('_', '-')}"
        if name not in known:
            faults.append(f"{where} is not a setting{_hint(name, known)}")
            continue
        try:
            values[name] = _based(known[name].read(value), source)
        except errors.SettingError as error:
            faults += [f"{where}{path} {why}" for path, why in error.faults]
        except ValueError as error:
            faults.append(f"{where} {error}")
    return values


def _based(value: object, source: Path | None) -> object:
    if isinstance(value, Path):
        return paths.absolute((source.parent if source else Path()) / value)
    return value


def _hint(name: str, known: Mapping[str, object]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
