"""Passwords: where they are found, where they are saved, and which server gets them."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest
from support import cli_lock
from worker_cli import errors
from worker_cli.settings import config, credentials

SERVER = "https://lab.example:8443"


def settings(directory: Path, **given: str | None) -> config.Settings:
    values: dict[str, str | None] = {"server": SERVER, "user": None, "password": None} | given
    return config.Settings(profile="default", cacert=None, directory=directory, **values)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests do not use the developer's own keyring."""
    monkeypatch.setitem(sys.modules, "keyring", None)


@pytest.fixture
def netrc(tmp_path: Path) -> Path:
    file = tmp_path / "netrc"
    file.write_text("machine lab.example login nina password from-netrc\n")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("user", "password", "stored", "in_netrc", "expected"),
    [
        ("ann", "env", {"ann": "kept"}, True, ("ann", "env")),
        ("ann", None, {"ann": "kept"}, True, ("ann", "kept")),
        (None, None, {"ann": "kept"}, True, ("ann", "kept")),
        (None, "env", {"ann": "kept"}, False, ("ann", "env")),
        ("nina", None, {"ann": "kept"}, True, ("nina", "from-netrc")),
        (None, None, {}, True, ("nina", "from-netrc")),
    ],
    ids=[
        "environment first",
        "then what login kept",
        "the only one logged in",
        "the only one logged in, with the environment's password",
        "netrc for another user",
        "netrc alone",
    ],
)
def test_precedence(
    tmp_path: Path,
    netrc: Path,
    user: str | None,
    password: str | None,
    stored: dict[str, str],
    in_netrc: bool,
    expected: tuple[str, str],
) -> None:
    """A user would be logged in as another user."""
    for name, kept in stored.items():
        credentials.store(settings(tmp_path), name, kept)
    environ = {"NETRC": str(netrc if in_netrc else tmp_path / "none")}
    found = credentials.find(settings(tmp_path, user=user, password=password), environ)
    assert found == expected


@pytest.mark.parametrize(
    ("user", "password", "stored", "message"),
    [
        (None, None, (), f"not logged in to {SERVER}; run `worker login {SERVER}`, or set"),
        ("zoe", None, ("ann",), f"not logged in to {SERVER} as zoe"),
        ("zoe", None, (), "as zoe"),
        (None, None, ("ann", "bob"), r"several users are logged in .*ann, bob.*--user"),
        (None, "env", (), "set WORKER_USER too"),
        (None, "env", ("ann", "bob"), "set WORKER_USER too"),
    ],
)
def test_not_logged_in(
    tmp_path: Path,
    netrc: Path,
    user: str | None,
    password: str | None,
    stored: tuple[str, ...],
    message: str,
) -> None:
    """A request would be sent with another user's password, or without one."""
    for name in stored:
        credentials.store(settings(tmp_path), name, "kept")
    environ = {"NETRC": str(netrc if user == "zoe" else tmp_path / "none")}
    with pytest.raises(errors.NotLoggedIn, match=message):
        credentials.find(settings(tmp_path, user=user, password=password), environ)


@pytest.mark.parametrize(
    ("server", "profile", "profile_server", "command"),
    [
        ("https://localhost:8443", "default", None, "worker login"),
        (SERVER, "default", None, f"worker login {SERVER}"),
        (SERVER, "default", SERVER, "worker login"),
        (SERVER, "lab", SERVER, "worker login --profile lab"),
        (SERVER, "lab", None, f"worker login --profile lab {SERVER}"),
        (SERVER, "default", "https://other", f"worker login --profile NEW_NAME {SERVER}"),
        (SERVER, "lab", "https://other", f"worker login --profile NEW_NAME {SERVER}"),
    ],
)
def test_the_advice_logs_in_to_the_right_server(
    tmp_path: Path, server: str, profile: str, profile_server: str | None, command: str
) -> None:
    """`worker login` would log in to the profile's server, and the same error appear again."""
    meant = dataclasses.replace(
        settings(tmp_path, server=server), profile=profile, profile_server=profile_server
    )
    with pytest.raises(errors.NotLoggedIn, match=f"run `{command}`, or set"):
        credentials.find(meant, {"NETRC": str(tmp_path / "none")})


@pytest.mark.parametrize(
    "server", ["https://lab.example", "https://lab.example:8444", "https://evil.example:8443"]
)
def test_a_stored_password_goes_to_its_server_only(tmp_path: Path, server: str) -> None:
    """Anybody who can set WORKER_SERVER could get the password."""
    credentials.store(settings(tmp_path), "ann", "kept")
    with pytest.raises(errors.NotLoggedIn):
        credentials.find(settings(tmp_path, server=server), {"NETRC": "/nowhere"})


def test_file_is_closed_to_others_from_the_first_moment(tmp_path: Path) -> None:
    """A password could be read while it is written."""
    before = (tmp_path / "x").parent
    directory = before / "new"
    place = credentials.store(settings(directory), "ann", "kept")
    assert place == str(directory / "credentials.json")
    assert (directory / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    names = sorted(each.name for each in directory.iterdir())
    assert names == [".lock", "credentials.json"]


def test_a_login_beside_another_keeps_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a script logs in to several servers at once, all passwords but one would be lost."""
    cli_lock.another_is_faster(
        monkeypatch, lambda: credentials.store(settings(tmp_path), "bob", "his")
    )
    credentials.store(settings(tmp_path), "ann", "hers")
    for user, password in (("ann", "hers"), ("bob", "his")):
        assert credentials.find(settings(tmp_path, user=user)) == (user, password)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Nobody would notice that other users can read the password."""
    credentials.store(settings(tmp_path), "ann", "kept")
    (tmp_path / "credentials.json").chmod(mode)
    with pytest.raises(errors.SettingsError, match=r"others can read .*chmod 600"):
        credentials.find(settings(tmp_path))


def test_netrc_that_others_can_read_is_refused(tmp_path: Path, netrc: Path) -> None:
    """The same for the older file."""
    netrc.chmod(0o644)
    with pytest.raises(errors.SettingsError, match=r"others can read .*chmod 600"):
        credentials.find(settings(tmp_path), {"NETRC": str(netrc)})


def test_netrc_of_other_hosts_is_left_alone(tmp_path: Path, netrc: Path) -> None:
    """An unrelated netrc file would make the client unusable."""
    netrc.chmod(0o644)
    with pytest.raises(errors.NotLoggedIn):
        credentials.find(settings(tmp_path, server="https://other"), {"NETRC": str(netrc)})


def test_broken_netrc_is_named(tmp_path: Path, netrc: Path) -> None:
    """A mistake in the file would end in a traceback."""
    netrc.write_text("frobnicate\n")
    with pytest.raises(errors.SettingsError, match=r"cannot read .*netrc"):
        credentials.find(settings(tmp_path), {"NETRC": str(netrc)})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"https://x": []}', '{"https://x": {"a": 1}}'])
def test_broken_file_is_named(tmp_path: Path, content: str) -> None:
    """A damaged file would end in a traceback."""
    file = tmp_path / "credentials.json"
    file.touch(mode=0o600)
    file.write_text(content)
    with pytest.raises(errors.SettingsError, match=r"log in again|login` again"):
        credentials.find(settings(tmp_path))


def test_forget(tmp_path: Path) -> None:
    """After logout the password would still be saved."""
    for name in ("ann", "bob"):
        credentials.store(settings(tmp_path), name, "kept")
    credentials.store(settings(tmp_path, server="https://other"), "ann", "kept")
    assert credentials.delete(settings(tmp_path, user="bob")) == ["bob"]
    assert credentials.delete(settings(tmp_path)) == ["ann"]
    assert credentials.delete(settings(tmp_path)) == []
    assert list(json.loads((tmp_path / "credentials.json").read_text())) == ["https://other"]


class KeyringError(Exception):
    """As in keyring.errors."""


class Keyring(types.ModuleType):
    """A fake of the keyring package: a dict, or a keyring that is locked."""

    def __init__(self, *, usable: bool) -> None:
        super().__init__("keyring")
        self.errors = types.ModuleType("keyring.errors")
        self.errors.KeyringError = KeyringError  # type: ignore[attr-defined]
        self.kept: dict[tuple[str, str], str] = {}
        self._usable = usable

    def set_password(self, service: str, user: str, password: str) -> None:
        if not self._usable:
            raise KeyringError
        self.kept[service, user] = password

    def get_password(self, service: str, user: str) -> str | None:
        return self.kept.get((service, user))

    def delete_password(self, service: str, user: str) -> None:
        if self.kept.pop((service, user), None) is None:
            raise KeyringError("not found")


def install(monkeypatch: pytest.MonkeyPatch, *, usable: bool) -> Keyring:
    keyring = Keyring(usable=usable)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", keyring.errors)
    return keyring


def test_keyring_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password would be in a file, although the extra for the keyring is installed."""
    keyring = install(monkeypatch, usable=True)
    assert credentials.store(settings(tmp_path), "ann", "secret") == "the system's keyring"
    assert "secret" not in (tmp_path / "credentials.json").read_text()
    assert credentials.find(settings(tmp_path)) == ("ann", "secret")
    assert credentials.delete(settings(tmp_path)) == ["ann"]
    assert keyring.kept == {}


def test_without_a_usable_keyring_the_file_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a desktop, login would be impossible."""
    install(monkeypatch, usable=False)
    assert credentials.store(settings(tmp_path), "ann", "secret").endswith("credentials.json")
    assert credentials.find(settings(tmp_path)) == ("ann", "secret")


def test_locked_keyring_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty password would be sent, and the server's answer would not explain it."""
    keyring = install(monkeypatch, usable=True)
    credentials.store(settings(tmp_path), "ann", "secret")
    keyring.kept.clear()
    with pytest.raises(errors.NotLoggedIn, match="keyring has no password of ann"):
        credentials.find(settings(tmp_path))
    with pytest.raises(errors.SettingsError, match="cannot delete the password"):
        credentials.delete(settings(tmp_path))


def test_keyring_is_not_imported_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command would take longer for a package that it does not need."""
    credentials.store(settings(tmp_path), "ann", "secret")
    monkeypatch.setattr(credentials, "_keyring", lambda: pytest.fail("imported"))
    assert credentials.find(settings(tmp_path)) == ("ann", "secret")
