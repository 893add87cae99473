"""The errors of worker-daemon that callers handle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_daemon.settings.config import Config


class DaemonError(Exception):
    """The base class of all errors of this distribution; ``str()`` is a sentence for people."""


class ConfigError(DaemonError):
    """The settings cannot be used.

    ``faults`` has a sentence for each fault. ``rest`` is the configuration with defaults for the
    ``broken`` settings, which could not be read; None if nothing could be read.
    """

    def __init__(
        self, faults: Iterable[str], rest: Config | None = None, broken: Iterable[str] = ()
    ) -> None:
        self.faults = tuple(faults)
        self.rest, self.broken = rest, frozenset(broken)
        super().__init__("\n".join(self.faults))


class SettingError(ValueError):
    """A table in the settings has faults, each with its path in the table."""

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{path} {why}" for path, why in self.faults))


class UsersError(DaemonError):
    """The users file cannot be used, or a change to it cannot be made."""


class HomeError(DaemonError):
    """A default path needs a home directory, and there is none."""


class CertificateError(DaemonError):
    """A certificate, key or CA file cannot be used."""


class ListenError(DaemonError):
    """workerd cannot listen on an address."""
