"""`workerd` for somebody without a home directory, as in a container whose uid has no account."""

import io
import os
import pwd
import sys
from pathlib import Path

import pytest
from worker_daemon.__main__ import main
from worker_daemon.settings import config


@pytest.fixture(
    params=[
        (None, "HOME is not set, and uid 54321 has no account"),
        ("", "the home directory is '', which is not an absolute path"),
        ("relative", "the home directory is 'relative', which is not an absolute path"),
    ],
    ids=["unset", "empty", "relative"],
    autouse=True,
)
def homeless(request, monkeypatch):
    """A user without an account, and without a usable HOME; returns the expected message."""
    home, told = request.param

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in list(os.environ):
        if name.endswith("_DIRECTORY") or name.startswith("XDG_") or name == "HOME":
            monkeypatch.delenv(name)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return told


@pytest.fixture
def made(tmp_path, monkeypatch, capsys):
    """What `workerd init --directory` has made: the path of the settings."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"wonderland\n")))
    arguments = ["--listen=127.0.0.1:0", "--user=alice", "--password-stdin", "--cost=4", "x.org"]
    assert main(["init", f"--directory={tmp_path}/etc", *arguments]) == 0
    return tmp_path / "etc/workerd.toml"


@pytest.mark.parametrize("arguments", [["--help"], ["init", "--help"], ["help", "user", "add"]])
def test_the_help_needs_no_home(capsys, arguments):
    """`--help` would print a traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "usage: workerd" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["serve"], ["check"], ["user", "list"]])
def test_who_has_no_home_is_told_what_to_set(homeless, capsys, arguments):
    """The first start in a container would be a traceback that names no way out."""
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"workerd: cannot tell where the settings are: {homeless}; set HOME, or XDG_CONFIG_HOME "
        "and XDG_STATE_HOME, or name a file with --config\n"
    )


def test_init_without_a_home_is_told_to_name_a_directory(homeless, capsys):
    """The same in the first minute, before there is anything."""
    assert main(["init", "x.org"]) == 1
    assert capsys.readouterr().err == (
        f"workerd: cannot tell where to write: {homeless}; name a --directory, or set HOME\n"
    )


def test_what_init_makes_works_without_a_home(made, capsys):
    """The settings that were just made would not say where jobs are kept, and be refused."""
    assert f"workerd --config {made}\n" in capsys.readouterr().out
    assert main(["check", f"--config={made}"]) == 0
    assert main(["user", "list", f"--config={made}"]) == 0
    assert config.load(made).state_dir == made.parent / "state"


def test_settings_that_leave_the_place_of_jobs_open_are_told_so(homeless, made, capsys):
    """Jobs would be kept below the working directory, wherever that is."""
    made.write_text('threads = 0\nclient_ca = "~/ca.pem"\n')
    capsys.readouterr()
    assert main(["check", f"--config={made}"]) == 1
    cure = "set HOME or XDG_STATE_HOME, or state_dir in the settings (--state-dir)"
    assert capsys.readouterr().err.splitlines() == [
        f"workerd: {made}: threads must be a whole number of at least 1, not 0",
        f"workerd: {made}: client_ca cannot be '~/ca.pem': {homeless}",
        f"workerd: cannot tell where jobs are kept: {homeless}; {cure}",
    ]
    made.write_text("")
    assert main(["check", f"--config={made}", f"--state-dir={made.parent}/state"]) == 0


def test_the_platforms_variables_stand_in_for_a_home(tmp_path, monkeypatch):
    """The cure in the message would not help."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    loaded = config.load()
    assert loaded.users == tmp_path / "config/workerd/users"
    assert loaded.state_dir == tmp_path / "state/workerd"


def test_the_home_of_nobody_is_said_so(made, capsys):
    """A misspelt account in a path would be a traceback."""
    made.write_text('state_dir = "~no-such-account/jobs"\n')
    assert main(["check", f"--config={made}"]) == 1
    said = "state_dir cannot be '~no-such-account/jobs': there is no account 'no-such-account'"
    assert said in capsys.readouterr().err


def test_a_home_that_the_account_has_is_enough(monkeypatch):
    """A service manager that sets no HOME would need one more line."""
    monkeypatch.delenv("HOME", raising=False)
    account = pwd.struct_passwd(("ann", "x", 54321, 54321, "", "/home/ann", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: account)
    assert config.load().users == Path("/home/ann/.config/workerd/users")
