"""The certificate that this client shows to a server which demands one besides the password."""

from __future__ import annotations

import ssl
from pathlib import Path

from worker_cli import errors


class _Encrypted(Exception):
    pass


def show(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Have a context show a certificate; raise SettingsError when one of the files is unusable."""
    for file in (cert, key):
        if fault := _unreadable(file):
            raise _unusable(file, fault)
    if key.stat().st_mode & 0o007:
        raise _unusable(key, f"others can read it; close it with: chmod o= {key}")
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except _Encrypted:
        cure = f"openssl pkey -in {key} writes it in the clear"
        raise _unusable(key, f"it is encrypted; {cure}") from None
    except ssl.SSLError as error:
        raise _fault(cert, key, error) from None


def _no_password() -> str:
    raise _Encrypted


def _unreadable(file: Path) -> str | None:
    try:
        file.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _fault(cert: Path, key: Path, error: ssl.SSLError) -> errors.SettingsError:
    if error.reason == "KEY_VALUES_MISMATCH":
        if _comes_later(cert, key):
            return _unusable(cert, f"the certificate of {key} must be the first one in it")
        return _unusable(key, f"it is not the key of the certificate {cert}")
    if b"-----BEGIN CERTIFICATE-----" not in cert.read_bytes():
        return _unusable(cert, "it holds no certificate in PEM form")
    if b"PRIVATE KEY-----" not in key.read_bytes():
        return _unusable(key, "it holds no private key in PEM form")
    return _unusable(cert, (error.reason or str(error)).replace("_", " ").lower())


def _comes_later(cert: Path, key: Path) -> bool:
    """Return whether the key belongs to a later certificate: the chain is in the wrong order."""
    end = b"-----END CERTIFICATE-----"
    _, *later = cert.read_bytes().split(end)
    return any(_belong_together(each + end + b"\n", key) for each in later)


def _belong_together(pem: bytes, key: Path) -> bool:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file.name, key)
        except ssl.SSLError:
            return False
    return True


def _unusable(file: Path, why: str) -> errors.SettingsError:
    return errors.SettingsError(
        f"cannot use {file} to show this client's certificate: {why}; "
        "see cert and key in config.toml"
    )
