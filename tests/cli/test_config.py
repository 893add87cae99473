"""Where settings come from, as a table, and what is wrong with a configuration file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support import cli_lock
from worker_cli import errors
from worker_cli.settings import config, files
from worker_cli.settings.config import Overrides

FILE = """
profile = "lab"

[profiles.lab]
server = "https://lab.example:8443"
cacert = "/etc/lab.pem"
user = "lara"

[profiles.home]
server = "https://home.example"
"""
ENVIRON = {
    "WORKER_SERVER": "https://env.example",
    "WORKER_CACERT": "/env.pem",
    "WORKER_USER": "eve",
    "WORKER_PASSWORD": "secret",
}
FLAGS = Overrides(server="https://flag.example", cacert="/flag.pem", user="flo")


def load(directory: Path, text: str, environ: dict[str, str], given: Overrides) -> config.Settings:
    (directory / "config.toml").write_text(text)
    return config.load(given, environ, directory)


@pytest.mark.parametrize(
    ("text", "environ", "given", "expected"),
    [
        ("", {}, Overrides(), ("default", "https://localhost:8443", None, None, None)),
        (FILE, {}, Overrides(), ("lab", "https://lab.example:8443", "/etc/lab.pem", "lara", None)),
        (FILE, {}, Overrides(profile="home"), ("home", "https://home.example", None, None, None)),
        (
            FILE,
            {"WORKER_PROFILE": "home"},
            Overrides(),
            ("home", "https://home.example", None, None, None),
        ),
        (
            FILE,
            {"WORKER_PROFILE": "home"},
            Overrides(profile="lab"),
            ("lab", "https://lab.example:8443", "/etc/lab.pem", "lara", None),
        ),
        (FILE, ENVIRON, Overrides(), ("lab", "https://env.example", "/env.pem", "eve", "secret")),
        (FILE, ENVIRON, FLAGS, ("lab", "https://flag.example", "/flag.pem", "flo", "secret")),
        (
            FILE,
            ENVIRON,
            Overrides(user="flo"),
            ("lab", "https://env.example", "/env.pem", "flo", "secret"),
        ),
        (
            FILE,
            dict.fromkeys(ENVIRON, ""),
            Overrides(),
            ("lab", "https://lab.example:8443", "/etc/lab.pem", "lara", None),
        ),
    ],
    ids=[
        "defaults",
        "file",
        "profile by flag",
        "profile by environment",
        "profile by flag over environment",
        "environment over file",
        "flags over environment",
        "each setting for itself",
        "empty variables are not set",
    ],
)
def test_precedence(
    tmp_path: Path,
    text: str,
    environ: dict[str, str],
    given: Overrides,
    expected: tuple[str | None, ...],
) -> None:
    """A job would run on another server than the one that was named."""
    found = load(tmp_path, text, environ, given)
    cacert = None if found.cacert is None else str(found.cacert)
    assert (found.profile, found.server, cacert, found.user, found.password) == expected


@pytest.mark.parametrize(
    ("server", "normal"),
    [
        ("localhost:8443", "https://localhost:8443"),
        ("HTTPS://Host.Example/", "https://host.example"),
        ("https://host/base/", "https://host/base"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("10.0.0.1", "https://10.0.0.1"),
    ],
)
def test_addresses_have_one_form(tmp_path: Path, server: str, normal: str) -> None:
    """A password saved for one spelling of a server would not be found for another."""
    assert load(tmp_path, "", {}, Overrides(server=server)).server == normal


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration could not be the same for two users."""
    monkeypatch.setenv("HOME", "/home/lara")
    found = load(tmp_path, '[profiles.default]\ncacert = "~/ca.pem"', {}, Overrides())
    assert found.cacert == Path("/home/lara/ca.pem")


def test_relative_path_begins_at_its_file(tmp_path: Path) -> None:
    """The same configuration would work in one directory only."""
    text = '[profiles.default]\ncacert = "ca.pem"'
    assert load(tmp_path, text, {}, Overrides()).cacert == tmp_path / "ca.pem"
    assert load(tmp_path, text, {}, Overrides(cacert="ca.pem")).cacert == Path("ca.pem")


def test_client_certificate_is_in_the_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment variable could make the client send a certificate that was not intended."""
    monkeypatch.setenv("HOME", "/home/lara")
    text = '[profiles.default]\ncert = "ann.pem"\nkey = "~/ann.key"'
    found = load(tmp_path, text, {"WORKER_CERT": "/x", "WORKER_KEY": "/x"}, Overrides())
    assert (found.cert, found.key) == (tmp_path / "ann.pem", Path("/home/lara/ann.key"))
    found = load(tmp_path, "", {"WORKER_CERT": "/x", "WORKER_KEY": "/x"}, Overrides())
    assert (found.cert, found.key) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server =", "config.toml: Invalid value"),
        ('server = "https://x"', "unknown setting server; settings belong in a table"),
        ("[profiles.a]\nserver = 1", r"server in \[profiles.a\] must be a string"),
        (
            '[profiles.a]\nsever = "x"',
            "unknown setting sever in .*known are server, cacert, user, cert, key",
        ),
        ("[profiles.a]\ncert = 1", r"cert in \[profiles.a\] must be a string"),
        ('[profiles.a]\nkey = "x"', r"key in \[profiles.a\] needs a cert"),
        ('[profiles.a]\npassword = "x"', "passwords do not belong here; use `worker login`"),
        ("profiles = 1", "profiles must be tables"),
        ("[profiles]\na = 1", "profiles must be tables"),
        ("profile = 1", "profile must be a string"),
        ('x = 1\n[profiles.a]\ny = "z"', "unknown setting x;.*unknown setting y"),
        ('profile = "lab"', "there is no profile lab .*it has: none.*worker login --profile"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    """A misspelt setting would be ignored, and the default be used."""
    with pytest.raises(errors.SettingsError, match=message):
        load(tmp_path, text, {}, Overrides())


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    """A damaged file would end in a traceback."""
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.SettingsError, match=r"config\.toml"):
        config.load(Overrides(), {}, tmp_path)


def test_a_home_that_is_not_a_directory_has_no_file(tmp_path: Path) -> None:
    """A service whose home directory is /dev/null could not use the command."""
    (tmp_path / "home").touch()
    given = Overrides(server="https://lab")
    assert config.load(given, {}, tmp_path / "home" / "worker").server == "https://lab"


def test_an_unknown_home_is_named(tmp_path: Path) -> None:
    """A typing mistake in a path would be reported as a bug."""
    with pytest.raises(errors.SettingsError, match=r"~nobody-at-all/ca\.pem: the home directory"):
        load(tmp_path, "", {}, Overrides(cacert="~nobody-at-all/ca.pem"))


def test_unknown_profile_names_the_known(tmp_path: Path) -> None:
    """With a misspelt profile, the default server would be used."""
    with pytest.raises(errors.SettingsError, match="it has: lab, home"):
        load(tmp_path, FILE, {}, Overrides(profile="lap"))


def test_saving_keeps_the_rest_of_the_file(tmp_path: Path) -> None:
    """`worker login` would delete comments and the other profiles."""
    text = '# mine\nprofile = "lab"  # the usual one\n\n[profiles.lab]\nserver = "https://old"\n'
    settings = load(tmp_path, text, {}, Overrides(server="https://new", user="lara"))
    config.save_profile(settings)
    saved = (tmp_path / "config.toml").read_text()
    assert saved == text.replace("https://old", "https://new") + 'user = "lara"\n'
    expected = dataclasses.replace(settings, profile_server="https://new")
    assert load(tmp_path, saved, {}, Overrides()) == expected


def test_saving_makes_a_new_profile(tmp_path: Path) -> None:
    """It would not be possible to log in to a second server."""
    (tmp_path / "config.toml").write_text(FILE)
    given = Overrides(profile="new", server="https://new", user="nora", cacert="ca.pem")
    config.save_profile(config.load(given, {}, tmp_path, new_profile=True))
    assert config.load(Overrides(profile="new"), {}, tmp_path).server == "https://new"
    assert config.load(Overrides(profile="new"), {}, tmp_path).cacert == Path("ca.pem").absolute()
    assert config.load(Overrides(), {}, tmp_path).user == "lara"
    assert config.profile_names(tmp_path) == ["lab", "home", "new"]


def save(directory: Path, profile: str) -> None:
    given = Overrides(profile=profile, server=f"https://{profile}", user="nora")
    config.save_profile(config.load(given, {}, directory, new_profile=True))


def test_a_login_beside_another_keeps_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a script logs in to several servers at once, all profiles but one would be lost."""
    cli_lock.another_is_faster(monkeypatch, lambda: save(tmp_path, "first"))
    save(tmp_path, "second")
    assert config.profile_names(tmp_path) == ["first", "second"]


def test_a_file_is_locked_while_it_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that another login saves at the same time would be lost."""
    seen = []
    write = files.write

    def watched(file: Path, content: bytes) -> None:
        seen.append(cli_lock.is_locked(file.parent))
        write(file, content)

    monkeypatch.setattr(files, "write", watched)
    save(tmp_path, "lab")
    assert seen == [True]
    assert not cli_lock.is_locked(tmp_path)


def test_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """A link into somebody's collection of dotfiles would be replaced by a file."""
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").symlink_to(tmp_path / "dotfiles" / "worker.toml")
    (tmp_path / "dotfiles" / "worker.toml").touch()
    config.save_profile(config.load(Overrides(user="lara"), {}, tmp_path / "config"))
    assert (tmp_path / "config" / "config.toml").is_symlink()
    assert "lara" in (tmp_path / "dotfiles" / "worker.toml").read_text()
