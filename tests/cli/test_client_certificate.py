"""The client's own certificate: the message names the file and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from support.cli_certs import Authority, Identity
from support.cli_run import Worker
from worker_cli import Client, SettingsError

SERVER = "https://localhost:1"


@pytest.fixture
def shown(tmp_path: Path, authority: Authority) -> Identity:
    """A valid certificate, in files that a test may damage."""
    return Authority(tmp_path, "clients").issue_to_client("ann")


def connect(shown: Identity, key: Path | None) -> None:
    """Make a client that would send the certificate."""
    Client(SERVER, user="ann", password="secret", cert=shown.cert, key=key).close()


def encrypt(file: Path) -> None:
    """Lock a key with a passphrase."""
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda i: i.cert.unlink(), "ann.pem .*: No such file or directory"),
        (lambda i: i.key.unlink(), "ann.key .*: No such file or directory"),
        (lambda i: (i.key.unlink(), i.key.mkdir()), "ann.key .*: Is a directory"),
        (lambda i: i.cert.write_text("x"), "ann.pem .*: it contains no certificate in PEM form"),
        (lambda i: i.key.write_text("x"), "ann.key .*: it contains no private key in PEM form"),
        (lambda i: i.key.chmod(0o644), "ann.key .*: others can read it; .* chmod o= "),
        (lambda i: encrypt(i.key), "ann.key .*: it is encrypted; openssl pkey"),
    ],
    ids=["no cert", "no key", "directory", "bad cert", "bad key", "open key", "encrypted"],
)
def test_a_file_that_cannot_be_used_is_named(
    shown: Identity, spoil: Callable[[Identity], object], message: str
) -> None:
    """OpenSSL's messages name neither the file nor what is wrong with it."""
    spoil(shown)
    with pytest.raises(SettingsError, match=f"cannot use .*/{message}.*see cert and key"):
        connect(shown, shown.key)


def test_the_key_of_another_certificate_is_refused(shown: Identity, identity: Identity) -> None:
    """A user would search for the fault on the server."""
    with pytest.raises(SettingsError, match=r"it is not the key of the certificate .*ann\.pem"):
        connect(shown, identity.key)


def test_one_file_may_hold_both(shown: Identity) -> None:
    """A certificate and key in one file, as other programs use them, would have to be split."""
    shown.cert.chmod(0o600)
    shown.cert.write_bytes(shown.cert.read_bytes() + shown.key.read_bytes())
    connect(shown, None)


def test_the_command_reports_it_in_one_line(worker: Worker) -> None:
    """A wrong path in the configuration would end in a traceback."""
    worker.config.mkdir(parents=True)
    file = worker.config / "config.toml"
    file.write_text('[profiles.default]\ncert = "no.pem"\n')
    done = worker.run("whoami", "--server", SERVER)
    assert done.code == 2
    assert done.stderr == (
        f"worker: cannot use {worker.config}/no.pem for this client's certificate: "
        "No such file or directory; see cert and key in config.toml\n"
    )
