"""Where the settings come from: flags over environment over configuration file over defaults.

The file is `config.toml` in the platform's directory for a user's configuration:

    profile = "lab"              # used when none is named; "default" without this line

    [profiles.lab]
    server = "https://lab.example:8443"
    cacert = "~/lab-ca.pem"      # the only CA trusted; without it the system's
    user = "ann"
    cert = "ann.pem"             # a certificate to show, for a server that demands one
    key = "ann.key"              # its private key; without it that is in the same file

Passwords are not in it, but in `credentials.json` beside it (see
worker_cli.settings.credentials).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker_cli import errors, parsing
from worker_cli.net import address

DEFAULT_PROFILE = "default"
_SETTINGS = ("server", "cacert", "user")
_IN_FILE_ONLY = ("cert", "key")
_PATHS = ("cacert", *_IN_FILE_ONLY)


@dataclass(frozen=True)
class Overrides:
    """What was given on the command line or by a program; None is not given."""

    server: str | None = None
    cacert: str | None = None
    user: str | None = None
    profile: str | None = None


@dataclass(frozen=True)
class Settings:
    """The settings in force. `user` and `password` may still be found elsewhere when None."""

    profile: str
    server: str
    cacert: Path | None
    user: str | None
    password: str | None
    """From the environment only."""
    directory: Path | None
    """Where the configuration and the credentials are kept; None for a user without a home."""
    cert: Path | None = None
    """The client's own certificate, from the file only; so is its key."""
    key: Path | None = None


def load(
    given: Overrides,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
    *,
    new_profile: bool = False,
) -> Settings:
    """Return the settings in force; raise SettingsError when the file is wrong.

    With `new_profile`, a profile that is named but does not exist is taken as an empty one.
    An environment variable that is empty counts as not set.
    """
    directory = directory or _directory()
    file = directory and directory / "config.toml"
    read = _read(file)
    name, profile = _profile(
        read, given.profile or environ.get("WORKER_PROFILE"), file, new_profile
    )
    # Relative to the file that names it; on a command line, to where that is typed.
    paths = {
        key: Path(directory or "") / _expanded(profile[key]) for key in _PATHS if profile.get(key)
    }
    profile = {**profile, **{key: str(path) for key, path in paths.items()}}
    found = {
        key: getattr(given, key) or environ.get(f"WORKER_{key.upper()}") or profile.get(key)
        for key in _SETTINGS
    }
    cacert = found["cacert"]
    return Settings(
        profile=name,
        server=address.normalized(found["server"] or address.DEFAULT),
        cacert=_expanded(cacert) if cacert else None,
        user=found["user"] or None,
        password=environ.get("WORKER_PASSWORD") or None,
        directory=directory,
        cert=paths.get("cert"),
        key=paths.get("key"),
    )


def required_directory(settings: Settings) -> Path:
    """Return the directory to keep something in; raise SettingsError when there is none."""
    if settings.directory is None:
        raise errors.SettingsError(
            "there is no directory to keep a login in: set HOME or XDG_CONFIG_HOME to one; "
            "other actions also do with WORKER_SERVER, WORKER_CACERT, WORKER_USER and "
            "WORKER_PASSWORD"
        )
    return settings.directory


def check_can_save(settings: Settings) -> None:
    """Raise SettingsError for what `save_profile` cannot write, before anything is asked or sent.

    A byte that is no UTF-8 is a lone surrogate here, and TOML has no way to write it.
    """
    required_directory(settings)
    texts = {
        "--profile": settings.profile,
        "--user": settings.user or "",
        "--cacert": _absolute(settings.cacert) or "",
    }
    for name, text in texts.items():
        if not parsing.is_unicode(text):
            raise errors.SettingsError(
                f"{name} {text} cannot be kept: config.toml takes UTF-8 only, and this is not"
            )


def save_profile(settings: Settings) -> None:
    """Write the profile of `settings` to the file; everything else in it stays as it is."""
    from worker_cli.settings import files

    directory = required_directory(settings)
    with files.locked(directory):
        _change(directory / "config.toml", settings)


def _change(file: Path, settings: Settings) -> None:
    import tomlkit

    from worker_cli.settings import files

    _read(file)  # refuse to add to what is not right already
    document = tomlkit.parse(file.read_text("utf-8") if file.exists() else "")
    profiles = document.setdefault("profiles", tomlkit.table(is_super_table=True))
    profile = profiles.setdefault(settings.profile, tomlkit.table())
    kept = {"server": settings.server, "user": settings.user}
    kept |= {"cacert": _absolute(settings.cacert)}
    for key, value in kept.items():
        if value is None:
            profile.pop(key, None)
        else:
            profile[key] = value
    files.write(file, tomlkit.dumps(document).encode("utf-8"))


def _absolute(file: Path | None) -> str | None:
    try:
        return None if file is None else str(file.absolute())
    except FileNotFoundError:
        raise errors.SettingsError(
            f"cannot keep the path {file}: the working directory was removed; write the whole path"
        ) from None


def profile_names(directory: Path | None = None) -> list[str]:
    """Return the names of the profiles in the file."""
    directory = directory or _directory()
    return list(_read(directory and directory / "config.toml").get("profiles", {}))


def _directory() -> Path | None:
    """Return where a user's configuration belongs, None for one who has no home.

    Such are the users that a container or a service is given by number only.
    """
    import platformdirs

    try:
        found = platformdirs.user_config_path("worker")
    except RuntimeError:
        return None
    return found if found.is_absolute() else None  # older ones return the ~ as it is


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise errors.SettingsError(
            f"cannot use {path}: whose home is meant is not known; write the whole path"
        ) from None


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        text = file.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):  # a service's home may be /dev/null
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise errors.SettingsError(f"cannot read {file}: {error}") from None
    import tomllib

    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.SettingsError(f"cannot read {file}: {error}") from None
    found = list(_faults(read))
    if found:
        raise errors.SettingsError(f"cannot use {file}: {'; '.join(found)}")
    return read


def _faults(read: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with the file's content."""
    profiles = read.get("profiles", {})
    if not isinstance(profiles, dict) or not all(
        isinstance(each, dict) for each in profiles.values()
    ):
        return ["profiles must be tables, as in [profiles.default]"]
    found = [
        f"unknown setting {key}; settings stand in a table [profiles.NAME]"
        for key in read
        if key not in ("profile", "profiles")
    ]
    if not isinstance(read.get("profile", ""), str):
        found.append("profile must be a text")
    for name, profile in profiles.items():
        for key, value in profile.items():
            where = f"{key} in [profiles.{name}]"
            if key == "password":
                found.append(f"{where}: a password does not belong here; use `worker login`")
            elif key not in (*_SETTINGS, *_IN_FILE_ONLY):
                known = ", ".join((*_SETTINGS, *_IN_FILE_ONLY))
                found.append(f"unknown setting {where}; known are {known}")
            elif not isinstance(value, str):
                found.append(f"{where} must be a text")
        if profile.get("key") and not profile.get("cert"):
            found.append(f"key in [profiles.{name}] needs a cert beside it")
    return found


def _profile(
    read: Mapping[str, Any], wanted: str | None, file: Path | None, new: bool
) -> tuple[str, Mapping[str, str]]:
    name = wanted or read.get("profile") or DEFAULT_PROFILE
    profiles: Mapping[str, Any] = read.get("profiles", {})
    if name in profiles or new or (name == DEFAULT_PROFILE and not wanted):
        return name, profiles.get(name, {})
    if file is None:
        raise errors.SettingsError(
            f"there is no profile {name}: without HOME and XDG_CONFIG_HOME there is no config.toml"
        )
    known = ", ".join(profiles) or "none"
    raise errors.SettingsError(
        f"there is no profile {name} in {file} (there are: {known}); "
        f"`worker login --profile {name} URL` makes it"
    )
