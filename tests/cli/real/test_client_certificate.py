"""A server that requires a client certificate, and clients with and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli_certs import Authority, Identity
from support.cli_run import Worker
from support.daemon import Daemon


@pytest.fixture
def strict(tmp_path: Path, authority: Authority) -> Iterator[Daemon]:
    """A server with client_ca."""
    with Daemon(tmp_path / "daemon", client_ca=authority.cert) as daemon:
        yield daemon


def show(worker: Worker, identity: Identity) -> None:
    """Name a certificate in the configuration."""
    worker.config.mkdir(parents=True, exist_ok=True)
    text = f'[profiles.default]\ncert = "{identity.cert}"\nkey = "{identity.key}"\n'
    (worker.config / "config.toml").write_text(text)


def log_in(worker: Worker, daemon: Daemon) -> tuple[int, str]:
    """Log in, and return the output."""
    words = ("login", daemon.url, "--cacert", str(daemon.ca), "--user", daemon.user)
    done = worker.run(*words, "--password-stdin", stdin=daemon.password.encode() + b"\n")
    return done.code, done.stderr


def test_with_a_certificate_everything_works(
    tmp_path: Path, strict: Daemon, authority: Authority
) -> None:
    """A server with client_ca could be used with curl, but not with this client."""
    worker = Worker(tmp_path)
    show(worker, authority.issue_to_client("ann"))
    assert log_in(worker, strict)[0] == 0
    assert worker.ok("run", "--wait", "echo", "hi").out == "hi\n"  # login has kept the names


def test_without_one_the_setting_is_named(tmp_path: Path, strict: Daemon) -> None:
    """The message would be about TLS alerts instead of the missing certificate."""
    code, stderr = log_in(Worker(tmp_path), strict)
    assert code == 125
    assert f"{strict.url} requires a client certificate" in stderr
    assert "cert and key in config.toml" in stderr


def test_a_certificate_of_another_ca_is_named(tmp_path: Path, strict: Daemon) -> None:
    """A user would search for the fault in the server's certificate."""
    worker = Worker(tmp_path)
    shown = Authority(tmp_path, "other").issue_to_client("eve")
    show(worker, shown)
    code, stderr = log_in(worker, strict)
    assert code == 125
    assert f"{strict.url} did not accept the certificate {shown.cert}: " in stderr
