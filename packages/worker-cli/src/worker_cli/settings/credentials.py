"""Passwords: where they are saved, and which password is used for which server.

The first of these is used: WORKER_PASSWORD; the password that `worker login` saved for the same
server and user; `~/.netrc` (or $NETRC), by the server's host name. `worker login` saves passwords
in `credentials.json` (mode 0600) or, if the `keyring` package is installed, in the system's
keyring. A saved password is never sent to another server.
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
    saved = _Store(settings).of_server(settings.server)
    user = settings.user
    if user is None and len(saved) > 1:
        raise errors.NotLoggedIn(
            f"several users are logged in to {settings.server} ({', '.join(saved)}); "
            "choose one with --user"
        )
    if user is None and saved:
        user = next(iter(saved))
    if user in saved:
        return user, _password(settings.server, user, saved[user])
    return _from_netrc(settings, environ) or _raise_not_logged_in(settings)


def _user_for_password(settings: Settings) -> str:
    saved = list(_Store(settings).of_server(settings.server)) if settings.user is None else []
    user = settings.user or (saved[0] if len(saved) == 1 else None)
    if user is None:
        raise errors.NotLoggedIn("WORKER_PASSWORD is set, but no user is: set WORKER_USER too")
    return user


def _raise_not_logged_in(settings: Settings) -> tuple[str, str]:
    who = f" as {settings.user}" if settings.user else ""
    raise errors.NotLoggedIn(
        f"not logged in to {settings.server}{who}; "
        f"run `{_login_command(settings)}`, or set WORKER_USER and WORKER_PASSWORD"
    )


def _login_command(settings: Settings) -> str:
    """Return the command that logs in to this server, without changing another one's profile."""
    usual_server = settings.profile_server or address.DEFAULT
    words = ["worker login"]
    if settings.profile_server not in (None, settings.server):
        words.append("--profile NEW_NAME")
    elif settings.profile != config.DEFAULT_PROFILE:
        words.append(f"--profile {settings.profile}")
    if settings.server != usual_server:
        words.append(settings.server)
    return " ".join(words)


def store(settings: Settings, user: str, password: str) -> str:
    """Save a password for the server of `settings`; return where, as a text for people."""
    saved = _Store(settings)
    if _save_in_keyring(settings.server, user, password):
        saved.put(settings.server, user, {_IN_KEYRING: True})
        return "the system's keyring"
    saved.put(settings.server, user, {"password": password})
    return str(saved.file)


def delete(settings: Settings) -> list[str]:
    """Delete the saved passwords for the server, or only that of its user when one is named.

    Returns the users whose passwords were deleted.
    """
    saved = _Store(settings)
    entries = saved.of_server(settings.server)
    users = [user for user in entries if settings.user in (None, user)]
    for user in users:
        if _IN_KEYRING in entries[user]:
            _delete_from_keyring(settings.server, user)
        saved.put(settings.server, user, None)
    return users


class _Store:
    """The credentials file: server -> user -> {"password": …} or {"keyring": true}."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def file(self) -> Path:
        """The file's path; raises SettingsError for a user without a home."""
        return config.required_directory(self._settings) / "credentials.json"

    def of_server(self, server: str) -> dict[str, dict[str, Any]]:
        return self._read().get(server, {})

    def put(self, server: str, user: str, entry: Mapping[str, Any] | None) -> None:
        """Set an entry, or delete it."""
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
                status = os.fstat(stream.fileno())
                files.check_private(self.file, status.st_mode, status.st_uid)
                content = json.load(stream)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise errors.SettingsError(
                f"cannot read {self.file}: {error}; delete it and run `worker login` again"
            ) from None
        if not _is_valid(content):
            raise errors.SettingsError(
                f"cannot use {self.file}: it was not written by `worker login`; "
                "delete it and run `worker login` again"
            )
        return content


def _is_valid(content: Any) -> TypeGuard[dict[str, dict[str, dict[str, Any]]]]:
    return isinstance(content, dict) and all(
        isinstance(users, dict) and all(isinstance(entry, dict) for entry in users.values())
        for users in content.values()
    )


def _from_netrc(settings: Settings, environ: Mapping[str, str]) -> tuple[str, str] | None:
    try:
        file = Path(environ.get("NETRC") or Path.home() / ".netrc")
        status = file.stat()
    except (OSError, RuntimeError):  # there is no such file, or no home directory
        return None
    import netrc

    try:
        login = netrc.netrc(str(file)).authenticators(address.host(settings.server))
    except UnicodeDecodeError as error:
        raise errors.SettingsError(
            f"cannot read {file}: byte {error.start} is not UTF-8; save the file as UTF-8, "
            "or set NETRC to another file"
        ) from None
    except (OSError, ValueError, netrc.NetrcParseError) as error:
        raise errors.SettingsError(f"cannot read {file}: {error}") from None
    if not login or not login[0] or settings.user not in (None, login[0]):
        return None
    files.check_private(file, status.st_mode, status.st_uid)
    return login[0], login[2] or ""


def _password(server: str, user: str, entry: Mapping[str, Any]) -> str:
    if _IN_KEYRING not in entry:
        return str(entry.get("password", ""))
    keyring = _keyring()
    try:
        password = keyring and keyring.get_password(_SERVICE.format(server), user)
    except keyring.errors.KeyringError as error:
        raise errors.NotLoggedIn(
            f"cannot read the password of {user} for {server} from the system's keyring: {error}; "
            "unlock it, or set WORKER_PASSWORD"
        ) from None
    if password is None:
        raise errors.NotLoggedIn(
            f"the system's keyring has no password of {user} for {server}; "
            "unlock it, or run `worker login` again"
        )
    return str(password)


def _save_in_keyring(server: str, user: str, password: str) -> bool:
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        keyring.set_password(_SERVICE.format(server), user, password)
    except keyring.errors.KeyringError:  # there is no keyring, or it is locked
        return False
    return True


def _delete_from_keyring(server: str, user: str) -> None:
    keyring = _keyring()
    if keyring is None:
        return
    try:
        keyring.delete_password(_SERVICE.format(server), user)
    except keyring.errors.KeyringError as error:
        raise errors.SettingsError(
            f"cannot delete the password from the keyring: {error}; unlock it and try again"
        ) from None


def _keyring() -> Any:
    """Return the `keyring` package, None if it is not installed (it is an extra)."""
    try:
        importlib.import_module("keyring.errors")
        return importlib.import_module("keyring")
    except ImportError:
        return None
