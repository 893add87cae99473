"""Login: saving the server's address and the user's credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli_run import InProcess, Worker
from support.daemon import Daemon


@pytest.fixture
def stranger(tmp_path: Path) -> InProcess:
    """A user at a new workstation, without any settings."""
    home = tmp_path / "workstation"
    home.mkdir()
    return InProcess(home)


def log_in(worker: Worker, daemon: Daemon, *more: str) -> None:
    words = ("login", daemon.url, "--cacert", str(daemon.ca), "--user", daemon.user)
    worker.ok(*words, "--password-stdin", *more, stdin=daemon.password.encode() + b"\n")


def test_after_login_nothing_more_is_needed(daemon: Daemon, stranger: Worker) -> None:
    """Every command would need the server, the CA and the password again."""
    log_in(stranger, daemon)
    assert stranger.ok("whoami").out == f"{daemon.user}\n"
    assert stranger.ok("run", "--wait", "echo", "hi").out == "hi\n"
    text = (stranger.config / "config.toml").read_text()
    assert text == (
        f'[profiles.default]\nserver = "{daemon.url}"\nuser = "{daemon.user}"\n'
        f'cacert = "{daemon.ca}"\n'
    )
    assert (stranger.config / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_login_at_a_terminal(daemon: Daemon, stranger: Worker) -> None:
    """A user would have to know the options, or the password would be visible."""
    stranger.environ["USER"] = daemon.user
    terminal = stranger.at_terminal("login", daemon.url, "--cacert", str(daemon.ca))
    terminal.expect_exact(f"User at {daemon.url} [{daemon.user}]: ")
    terminal.sendline("")
    terminal.expect_exact(f"Password of {daemon.user}: ")
    terminal.waitnoecho()
    terminal.sendline(daemon.password)
    terminal.expect_exact(f"logged in to {daemon.url} as {daemon.user}")
    terminal.read()
    terminal.close()
    assert terminal.exitstatus == 0
    assert stranger.ok("whoami").out == f"{daemon.user}\n"


def test_a_server_that_cannot_be_trusted_is_reported_before_any_question(
    daemon: Daemon, stranger: Worker
) -> None:
    """A user would type a password before the wrong address or CA is reported."""
    terminal = stranger.at_terminal("login", daemon.url)
    terminal.expect_exact(f"worker: cannot trust {daemon.url}: ")
    assert b"User at" not in terminal.before + terminal.read()
    terminal.close()
    assert terminal.exitstatus == 125


@pytest.mark.parametrize("words", [(), ("--user", "ann")], ids=["user", "password"])
def test_a_question_of_login_can_be_left_by_ctrl_d(
    daemon: Daemon, stranger: Worker, words: tuple[str, ...]
) -> None:
    """After Ctrl-D at the user name, login would still ask for a password."""
    stranger.environ["USER"] = daemon.user
    terminal = stranger.at_terminal("login", daemon.url, "--cacert", str(daemon.ca), *words)
    terminal.expect_exact(["User at", "Password of ann: "])
    terminal.sendeof()
    terminal.expect_exact("aborted: end of input; nothing was changed")
    terminal.read()
    terminal.close()
    assert terminal.exitstatus == 125
    assert not stranger.config.exists()


def test_wrong_password_is_not_kept(daemon: Daemon, stranger: Worker) -> None:
    """Login would report success, and every later command fail."""
    words = ("login", daemon.url, "--cacert", str(daemon.ca), "--user", daemon.user)
    done = stranger.run(*words, "--password-stdin", stdin=b"wrong\n")
    assert done.code == 125
    assert "did not accept the login" in done.stderr
    assert "run `worker login` again" in done.stderr
    assert not stranger.config.exists()


def test_untrusted_server_is_not_kept(daemon: Daemon, stranger: Worker) -> None:
    """The password would be sent to an untrusted server."""
    words = ("login", daemon.url, "--user", daemon.user, "--password-stdin")
    done = stranger.run(*words, stdin=daemon.password.encode())
    assert done.code == 125
    assert "--cacert FILE" in done.stderr
    assert not stranger.config.exists()


@pytest.mark.parametrize(
    ("words", "needs"),
    [((), "login needs --user NAME"), (("--user", "ann"), "login needs --password-stdin")],
)
def test_login_without_a_terminal_needs_options(
    stranger: Worker, words: tuple[str, ...], needs: str
) -> None:
    """A script would wait for the answer to a question that nobody sees."""
    done = stranger.run("login", *words)
    assert done.code == 2
    assert needs in done.stderr


def test_password_from_the_environment(daemon: Daemon, stranger: Worker) -> None:
    """A script with WORKER_PASSWORD would have to pipe the password as well."""
    stranger.environ |= {"WORKER_PASSWORD": daemon.password}
    stranger.ok("login", daemon.url, "--cacert", str(daemon.ca), "--user", daemon.user)
    del stranger.environ["WORKER_PASSWORD"]
    assert stranger.ok("whoami").out == f"{daemon.user}\n"


def test_profiles(daemon: Daemon, stranger: Worker) -> None:
    """A user of two servers would have to log in again and again."""
    log_in(stranger, daemon, "--profile", "lab")
    assert stranger.ok("--profile", "lab", "whoami").out == f"{daemon.user}\n"
    stranger.environ["WORKER_PROFILE"] = "lab"
    assert stranger.ok("whoami").out == f"{daemon.user}\n"
    stranger.environ["WORKER_PROFILE"] = "lap"
    done = stranger.run("whoami")
    assert done.code == 2
    assert "there is no profile lap" in done.stderr
    assert "it has: lab" in done.stderr


def test_logout(daemon: Daemon, stranger: Worker) -> None:
    """On a shared machine the password would stay behind."""
    log_in(stranger, daemon)
    assert "was deleted" in stranger.ok("logout").stderr
    assert daemon.password not in (stranger.config / "credentials.json").read_text()
    done = stranger.run("whoami")
    assert done.code == 125
    assert "worker: not logged in" in done.stderr
    assert "there was no saved password" in stranger.ok("logout").stderr


def test_netrc(daemon: Daemon, stranger: Worker) -> None:
    """Passwords in ~/.netrc, as other programs use them, would be ignored."""
    netrc = stranger.home / ".netrc"
    netrc.write_text(f'machine localhost login {daemon.user} password "{daemon.password}"\n')
    netrc.chmod(0o600)
    words = ("whoami", "--server", daemon.url, "--cacert", str(daemon.ca))
    assert stranger.ok(*words).out == f"{daemon.user}\n"


def test_credentials_that_others_can_read_are_refused(daemon: Daemon, stranger: Worker) -> None:
    """Nobody would notice that other users can read the password."""
    log_in(stranger, daemon)
    (stranger.config / "credentials.json").chmod(0o644)
    done = stranger.run("whoami")
    assert done.code == 2
    assert "chmod 600" in done.stderr


def test_whoami_as_json(daemon: Daemon, stranger: Worker) -> None:
    """A program would have to parse a text for people."""
    log_in(stranger, daemon)
    expected = f'{{"user":"{daemon.user}","admin":false}}\n'
    assert stranger.ok("whoami", "-o", "jsonl").out == expected
