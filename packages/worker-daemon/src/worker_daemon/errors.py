"""The errors of worker-daemon that its callers act on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_daemon.settings.config import Config


class DaemonError(Exception):
    """The base of every error of this distribution; ``str()`` is a sentence for people."""


class ConfigError(DaemonError):
    """Settings that cannot work.

    ``faults`` holds every one of them, each a sentence of its own. ``rest`` is the configuration
    without the settings that could not be read, which are ``broken``; None if nothing could be.
    """

    def __init__(
        self, faults: Iterable[str], rest: Config | None = None, broken: Iterable[str] = ()
    ) -> None:
        self.faults = tuple(faults)
        self.rest, self.broken = rest, frozenset(broken)
        super().__init__("\n".join(self.faults))


class SettingError(ValueError):
    """A table of the settings has faults, each with its path below the setting."""

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{path} {why}" for path, why in self.faults))


class UsersError(DaemonError):
    """The users file cannot be used, or a change to it cannot be made."""


class HomeError(DaemonError):
    """There is no home directory, and nothing else says where a file is."""


class CertificateError(DaemonError):
    """A certificate, key or CA file cannot be used."""


class ListenError(DaemonError):
    """The address cannot be listened on."""
