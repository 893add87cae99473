"""Passwords: where they are kept, and which one goes to which server.

In this order: WORKER_PASSWORD; what `worker login` stored for this very server and user, in
`credentials.json` (mode 0600) or, when the `keyring` package is installed, in the system's
keyring; `~/.netrc` (or $NETRC) by the server's host name. A stored password is never sent to a
server other than the one that it was stored for.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from worker_cli import errors
from worker_cli.net import address
from worker_cli.settings import config, files
from worker_cli.settings.config import Settings

_IN_KEYRING = "keyring"
_SERVICE = "worker {}"


def find(settings: Settings, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return the user and the password to use; raise NotLoggedIn when there are none."""
    if settings.password:
        return _user_for_password(settings), settings.password
    stored = _Store(settings).of_server(settings.server)
    user = settings.user
    if user is None and len(stored) > 1:
        raise errors.NotLoggedIn(
            f"several users are logged in to {settings.server} ({', '.join(stored)}); "
            "name one with --user"
        )
    if user is None and stored:
        user = next(iter(stored))
    if user in stored:
        return user, _password(settings.server, user, stored[user])
    return _from_netrc(settings, environ) or _raise_not_logged_in(settings)


def _user_for_password(settings: Settings) -> str:
    stored = list(_Store(settings).of_server(settings.server)) if settings.user is None else []
    user = settings.user or (stored[0] if len(stored) == 1 else None)
    if user is None:
        raise errors.NotLoggedIn("WORKER_PASSWORD is set, but no user is: set WORKER_USER too")
    return user


def _raise_not_logged_in(settings: Settings) -> tuple[str, str]:
    who = f" as {settings.user}" if settings.user else ""
    raise errors.NotLoggedIn(
        f"not logged in to {settings.server}{who}; "
        "run `worker login`, or set WORKER_USER and WORKER_PASSWORD"
    )


def store(settings: Settings, user: str, password: str) -> str:
    """Keep a password for the server of `settings`; return where, as a word for people."""
    kept = _Store(settings)
    if _into_keyring(settings.server, user, password):
        kept.put(settings.server, user, {_IN_KEYRING: True})
        return "the system's keyring"
    kept.put(settings.server, user, {"password": password})
    return str(kept.file)


def delete(settings: Settings) -> list[str]:
    """Remove the passwords that are kept for the server, or for its user when one is named.

    Returns the users whose passwords were removed.
    """
    kept = _Store(settings)
    stored = kept.of_server(settings.server)
    users = [user for user in stored if settings.user in (None, user)]
    for user in users:
        if _IN_KEYRING in stored[user]:
            _out_of_keyring(settings.server, user)
        kept.put(settings.server, user, None)
    return users


class _Store:
    """The credentials file: server -> user -> {"password": …} or {"keyring": true}."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def file(self) -> Path:
        """Where it is; raises SettingsError for a user who has no place for it."""
        return config.required_directory(self._settings) / "credentials.json"

    def of_server(self, server: str) -> dict[str, dict[str, Any]]:
        return self._read().get(server, {})

    def put(self, server: str, user: str, entry: Mapping[str, Any] | None) -> None:
        """Set an entry, or remove it."""
        with files.locked(self.file.parent):
            content = self._read()
            users = content.setdefault(server, {})
            users.pop(user, None)
            if entry is not None:
                users[user] = dict(entry)
            if not users:
                del content[server]
            files.write(self.file, json.dumps(content, indent=2).encode("ascii") + b"\n")

    def _read(self) -> dict[str, dict[str, dict[str, Any]]]:
        if self._settings.directory is None:
            return {}
        try:
            with self.file.open("rb") as stream:
                told = os.fstat(stream.fileno())
                files.refuse_if_open(self.file, told.st_mode, told.st_uid)
                content = json.load(stream)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise errors.SettingsError(
                f"cannot read {self.file}: {error}; remove it and run `worker login` again"
            ) from None
        if not _is_right(content):
            raise errors.SettingsError(
                f"cannot use {self.file}: it is not what `worker login` writes; "
                "remove it and log in again"
            )
        return content


def _is_right(content: Any) -> TypeGuard[dict[str, dict[str, dict[str, Any]]]]:
    return isinstance(content, dict) and all(
        isinstance(users, dict) and all(isinstance(entry, dict) for entry in users.values())
        for users in content.values()
    )


def _from_netrc(settings: Settings, environ: Mapping[str, str]) -> tuple[str, str] | None:
    try:
        file = Path(environ.get("NETRC") or Path.home() / ".netrc")
        told = file.stat()
    except (OSError, RuntimeError):  # there is none, or no home that it could be in
        return None
    import netrc

    try:
        found = netrc.netrc(str(file)).authenticators(address.host(settings.server))
    except UnicodeDecodeError as error:
        raise errors.SettingsError(
            f"cannot read {file}: byte {error.start} of it is not UTF-8; write the file in UTF-8, "
            "or let NETRC name another one"
        ) from None
    except (OSError, ValueError, netrc.NetrcParseError) as error:
        raise errors.SettingsError(f"cannot read {file}: {error}") from None
    if not found or not found[0] or settings.user not in (None, found[0]):
        return None
    files.refuse_if_open(file, told.st_mode, told.st_uid)
    return found[0], found[2] or ""


def _password(server: str, user: str, entry: Mapping[str, Any]) -> str:
    if _IN_KEYRING not in entry:
        return str(entry.get("password", ""))
    keyring = _keyring()
    try:
        password = keyring and keyring.get_password(_SERVICE.format(server), user)
    except keyring.errors.KeyringError as error:
        raise errors.NotLoggedIn(
            f"the system's keyring does not give the password of {user} for {server}: {error}; "
            "unlock it, or set WORKER_PASSWORD"
        ) from None
    if password is None:
        raise errors.NotLoggedIn(
            f"the system's keyring has no password of {user} for {server}; "
            "unlock it, or run `worker login` again"
        )
    return str(password)


def _into_keyring(server: str, user: str, password: str) -> bool:
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        keyring.set_password(_SERVICE.format(server), user, password)
    except keyring.errors.KeyringError:  # there is no keyring here, or it stays locked
        return False
    return True


def _out_of_keyring(server: str, user: str) -> None:
    keyring = _keyring()
    if keyring is None:
        return
    try:
        keyring.delete_password(_SERVICE.format(server), user)
    except keyring.errors.KeyringError as error:
        raise errors.SettingsError(
            f"cannot remove the password from the keyring: {error}"
        ) from None


def _keyring() -> Any:
    """Return the `keyring` package, which the extra of that name installs, or None."""
    try:
        importlib.import_module("keyring.errors")
        return importlib.import_module("keyring")
    except ImportError:
        return None
