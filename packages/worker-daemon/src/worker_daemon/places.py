"""Where workerd's files are when nothing says otherwise.

systemd says it through the environment of a service (``CONFIGURATION_DIRECTORY``,
``STATE_DIRECTORY``, ``CREDENTIALS_DIRECTORY``). Without it root uses the site's directories and
everybody else their own, as the platform lays them out.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def config_dir() -> Path:
    """Return the directory of the configuration; it need not exist."""
    if given := _from_systemd("CONFIGURATION_DIRECTORY"):
        return given
    dirs = platformdirs.PlatformDirs("workerd", appauthor=False)
    return dirs.site_config_path if os.geteuid() == 0 else dirs.user_config_path


def config_file() -> Path:
    """Return the path of the configuration; it need not exist."""
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
    """Return the files that are beside a configuration, by the names of their settings.

    Certificate and key may come as a service's credentials instead, which only it can read.
    """
    directory = configuration.absolute().parent
    return {
        "cert": _credential("server.pem") or directory / "server.pem",
        "key": _credential("server.key") or directory / "server.key",
        "users": directory / "users",
    }


def state_dir() -> Path:
    """Return the directory in which jobs are kept."""
    if given := _from_systemd("STATE_DIRECTORY"):
        return given
    if os.geteuid() == 0:
        return Path("/var/lib/workerd")
    return platformdirs.PlatformDirs("workerd", appauthor=False).user_state_path


def _credential(name: str) -> Path | None:
    directory = _from_systemd("CREDENTIALS_DIRECTORY")
    return directory / name if directory and (directory / name).exists() else None


def _from_systemd(variable: str) -> Path | None:
    # Several directories are separated by colons; the first is the service's own.
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first) if first else None
