"""The default paths of workerd's files.

systemd sets them in the environment of a service (``CONFIGURATION_DIRECTORY``, ``STATE_DIRECTORY``,
``CREDENTIALS_DIRECTORY``). Otherwise root uses the directories of the system, and every other user
those of the XDG base directory specification.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import platformdirs

from worker_daemon import errors

_DIRS = platformdirs.PlatformDirs("workerd", appauthor=False)


NO_DIRECTORY = (
    "must be an absolute path: the working directory was removed (or change to one that exists)"
)


def config_dir() -> Path:
    """Return the directory of the configuration; it need not exist. Raises HomeError."""
    if given := _from_systemd("CONFIGURATION_DIRECTORY"):
        return given
    if os.geteuid() == 0:
        return _DIRS.site_config_path
    _check_home("XDG_CONFIG_HOME")
    return _DIRS.user_config_path


def config_file() -> Path:
    """Return the path of the configuration; it need not exist. Raises HomeError."""
    return config_dir() / "workerd.toml"


def certificate() -> Path:
    """Return the path of the server's certificate."""
    return beside(config_file())["cert"]


def key() -> Path:
    """Return the path of the server's private key."""
    return beside(config_file())["key"]


def users() -> Path:
    """Return the path of the users file."""
    return beside(config_file())["users"]


def beside(configuration: Path) -> dict[str, Path]:
    """Return the paths of the files beside a configuration, by the names of their settings.

    Certificate and key may be credentials of the service instead, which only it can read.
    """
    directory = configuration.absolute().parent
    return {
        "cert": _credential("server.pem") or directory / "server.pem",
        "key": _credential("server.key") or directory / "server.key",
        "users": directory / "users",
    }


def has_directory() -> bool:
    """Return whether the working directory still exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def absolute(path: Path) -> Path:
    """Return an absolute path without `..`; raises ValueError if there is no working directory."""
    try:
        return Path(os.path.abspath(path))
    except FileNotFoundError:
        raise ValueError(NO_DIRECTORY) from None


def state_dir() -> Path:
    """Return the directory in which jobs are kept. Raises HomeError."""
    if given := _from_systemd("STATE_DIRECTORY"):
        return given
    if os.geteuid() == 0:
        return Path("/var/lib/workerd")
    _check_home("XDG_STATE_HOME")
    return _DIRS.user_state_path


def expanded(path: Path) -> Path:
    """Return a path with ~ or ~NAME at its start replaced by a home directory. Raises HomeError."""
    if path.parts[:1] == ("~",):
        _check_home()
    try:
        return path.expanduser()
    except RuntimeError:
        name = path.parts[0].removeprefix("~")
        raise errors.HomeError(f"there is no account {name!r} on this machine") from None


def _check_home(instead: str = "") -> None:
    """Raise HomeError if this user has no home directory, and `instead` is not set either.

    For such a user, platformdirs returns various paths, depending on its release.
    """
    if os.path.isabs(os.environ.get(instead, "")):
        return
    home = os.environ.get("HOME")
    if home is None:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise errors.HomeError(
                f"HOME is not set, and uid {os.getuid()} has no account"
            ) from None
    if not os.path.isabs(home):
        raise errors.HomeError(f"the home directory is {home!r}, which is not an absolute path")


def _credential(name: str) -> Path | None:
    directory = _from_systemd("CREDENTIALS_DIRECTORY")
    return directory / name if directory and (directory / name).exists() else None


def _from_systemd(variable: str) -> Path | None:
    # Several directories are separated by colons; the first one is the service's own.
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first) if first else None
