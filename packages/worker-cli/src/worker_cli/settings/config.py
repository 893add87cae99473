"""The settings: options override the environment, then the configuration file, then defaults.

The file is `config.toml` in the platform's directory for a user's configuration:

    profile = "lab"              # the profile to use without --profile; default: "default"

    [profiles.lab]
    server = "https://lab.example:8443"
    cacert = "~/lab-ca.pem"      # the only CA to trust; default: the system's CAs
    user = "ann"
    cert = "ann.pem"             # client certificate, for a server that requires one
    key = "ann.key"              # its private key; default: in the file of cert

Passwords are in `credentials.json` in the same directory (see worker_cli.settings.credentials).
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
    """Settings from the command line or from a program; None where there is none."""

    server: str | None = None
    cacert: str | None = None
    user: str | None = None
    profile: str | None = None


@dataclass(frozen=True)
class Settings:
    """The effective settings. When `user` or `password` is None, see `credentials.find`."""

    profile: str
    server: str
    cacert: Path | None
    user: str | None
    password: str | None
    """From the environment only."""
    directory: Path | None
    """Where the configuration and the credentials are saved; None for a user without a home."""
    cert: Path | None = None
    """The client's own certificate. It and its key are set only in the file."""
    key: Path | None = None
    profile_server: str | None = None
    """The server that the profile names in the file, which may not be the one in `server`."""


def load(
    overrides: Overrides,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
    *,
    new_profile: bool = False,
) -> Settings:
    """Return the effective settings; raise SettingsError for an invalid file.

    With `new_profile`, a profile that does not exist is treated as empty. An empty environment
    variable counts as not set.
    """
    directory = directory or _directory()
    file = directory and directory / "config.toml"
    content = _read(file)
    name, profile = _profile(
        content, overrides.profile or environ.get("WORKER_PROFILE"), file, new_profile
    )
    # A path in the file is relative to the file's directory, one on the command line to ours.
    paths = {
        key: Path(directory or "") / _expanded(profile[key]) for key in _PATHS if profile.get(key)
    }
    profile = {**profile, **{key: str(path) for key, path in paths.items()}}
    values = {
        key: getattr(overrides, key) or environ.get(f"WORKER_{key.upper()}") or profile.get(key)
        for key in _SETTINGS
    }
    cacert = values["cacert"]
    return Settings(
        profile=name,
        server=address.normalized(values["server"] or address.DEFAULT),
        cacert=_expanded(cacert) if cacert else None,
        user=values["user"] or None,
        password=environ.get("WORKER_PASSWORD") or None,
        directory=directory,
        cert=paths.get("cert"),
        key=paths.get("key"),
        profile_server=address.normalized(profile["server"]) if profile.get("server") else None,
    )


def required_directory(settings: Settings) -> Path:
    """Return the directory to save files in; raise SettingsError when there is none."""
    if settings.directory is None:
        raise errors.SettingsError(
            "there is no directory to save a login in: set HOME or XDG_CONFIG_HOME to one; "
            "all other actions work with WORKER_SERVER, WORKER_CACERT, WORKER_USER and "
            "WORKER_PASSWORD"
        )
    return settings.directory


def check_can_save(settings: Settings) -> None:
    """Raise SettingsError for what `save_profile` could not write, before anything is sent.

    A byte that is not UTF-8 is a lone surrogate here, which TOML cannot express.
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
                f"{name} {text} cannot be saved: it is not UTF-8, and config.toml must be"
            )


def save_profile(settings: Settings) -> None:
    """Write the profile of `settings` to the file; the rest of the file stays unchanged."""
    from worker_cli.settings import files

    directory = required_directory(settings)
    with files.locked(directory):
        _change(directory / "config.toml", settings)


def _change(file: Path, settings: Settings) -> None:
    import tomlkit

    from worker_cli.settings import files

    _read(file)  # do not add to a file that is invalid
    document = tomlkit.parse(file.read_text("utf-8") if file.exists() else "")
    profiles = document.setdefault("profiles", tomlkit.table(is_super_table=True))
    profile = profiles.setdefault(settings.profile, tomlkit.table())
    saved = {"server": settings.server, "user": settings.user}
    saved |= {"cacert": _absolute(settings.cacert)}
    for key, value in saved.items():
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
            f"cannot save the path {file}: the working directory was removed; give an absolute path"
        ) from None


def profile_names(directory: Path | None = None) -> list[str]:
    """Return the names of the profiles in the file."""
    directory = directory or _directory()
    return list(_read(directory and directory / "config.toml").get("profiles", {}))


def _directory() -> Path | None:
    """Return the directory of the user's configuration, None for a user without a home.

    A container or a service may run with a user id that has no account.
    """
    import platformdirs

    try:
        directory = platformdirs.user_config_path("worker")
    except RuntimeError:
        return None
    return directory if directory.is_absolute() else None  # old versions return "~/…"


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise errors.SettingsError(
            f"cannot use {path}: the home directory is not known; give an absolute path"
        ) from None


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        text = file.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):  # the home of a service may be /dev/null
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise errors.SettingsError(f"cannot read {file}: {error}") from None
    import tomllib

    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.SettingsError(f"cannot read {file}: {error}") from None
    if faults := _faults(content):
        raise errors.SettingsError(f"cannot use {file}: {'; '.join(faults)}")
    return content


def _faults(content: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with the file's content."""
    profiles = content.get("profiles", {})
    if not isinstance(profiles, dict) or not all(
        isinstance(profile, dict) for profile in profiles.values()
    ):
        return ["profiles must be tables, as in [profiles.default]"]
    faults = [
        f"unknown setting {key}; settings belong in a table [profiles.NAME]"
        for key in content
        if key not in ("profile", "profiles")
    ]
    if not isinstance(content.get("profile", ""), str):
        faults.append("profile must be a string")
    for name, profile in profiles.items():
        for key, value in profile.items():
            where = f"{key} in [profiles.{name}]"
            if key == "password":
                faults.append(f"{where}: passwords do not belong here; use `worker login`")
            elif key not in (*_SETTINGS, *_IN_FILE_ONLY):
                known = ", ".join((*_SETTINGS, *_IN_FILE_ONLY))
                faults.append(f"unknown setting {where}; known are {known}")
            elif not isinstance(value, str):
                faults.append(f"{where} must be a string")
        if profile.get("key") and not profile.get("cert"):
            faults.append(f"key in [profiles.{name}] needs a cert")
    return faults


def _profile(
    content: Mapping[str, Any], requested: str | None, file: Path | None, new: bool
) -> tuple[str, Mapping[str, str]]:
    name = requested or content.get("profile") or DEFAULT_PROFILE
    profiles: Mapping[str, Any] = content.get("profiles", {})
    if name in profiles or new or (name == DEFAULT_PROFILE and not requested):
        return name, profiles.get(name, {})
    if file is None:
        raise errors.SettingsError(
            f"there is no profile {name}: without HOME and XDG_CONFIG_HOME there is no config.toml"
        )
    known = ", ".join(profiles) or "none"
    raise errors.SettingsError(
        f"there is no profile {name} in {file} (it has: {known}); "
        f"to create it: worker login --profile {name} URL"
    )
