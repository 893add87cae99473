"""The errors of worker-daemon that its callers act on."""

from __future__ import annotations

from collections.abc import Iterable


class DaemonError(Exception):
    """The base of every error of this distribution; ``str()`` is a sentence for people."""


class ConfigError(DaemonError):
    """Settings that cannot work.

    ``faults`` holds every one of them, each a sentence of its own.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class SettingError(ValueError):
    """A table of the settings has faults, each with its path below the setting."""

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{path} {why}" for path, why in self.faults))


class UsersError(DaemonError):
    """The users file cannot be used, or a change to it cannot be made."""


class CertificateError(DaemonError):
    """A certificate, key or CA file cannot be used."""


class ListenError(DaemonError):
    """The address cannot be listened on."""
