"""TLS: which servers are trusted, the client's own certificate, and why a server is not trusted.

Only the CA that the user named is trusted; no environment variable adds to it. Without a named CA
the system's CAs are trusted, which OpenSSL finds through SSL_CERT_FILE and SSL_CERT_DIR if they
are set. Verification cannot be turned off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker_cli import errors
from worker_cli.net import address

# X509_V_ERR_* of OpenSSL's x509_vfy.h. The numbers are stable, the texts are not.
_NO_ISSUER = (20, 21)
_NOT_YET_VALID, _EXPIRED, _WRONG_HOST, _WRONG_ADDRESS = 9, 10, 62, 64
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for

_PROBE_SECONDS = 5.0


def context(cacert: Path | None) -> ssl.SSLContext:
    """Return a context that trusts only `cacert`, or the system's CAs when it is None.

    Raises Untrusted when the file contains no certificate, and SettingsError when SSLKEYLOGFILE
    names a file that cannot be written.
    """
    _check_key_log(os.environ.get("SSLKEYLOGFILE"))
    try:
        return ssl.create_default_context(cafile=cacert)
    except ssl.SSLError:
        why = "it contains no certificate in PEM form"
    except OSError as error:
        why = error.strerror or str(error)
    raise errors.Untrusted(
        f"cannot use {cacert} as the CA to trust: {why}; name the CA's certificate with --cacert"
    )


def _check_key_log(name: str | None) -> None:
    """Open the key log file before `ssl` does, whose error does not name the file."""
    try:
        if name:
            open(name, "ab").close()
    except OSError as error:
        raise errors.SettingsError(
            f"cannot write {name}, which SSLKEYLOGFILE names: {error.strerror}; "
            "name another file, or unset SSLKEYLOGFILE"
        ) from None


# The client's own certificate.


class _EncryptedKey(Exception):
    """Raised in place of asking for a password."""


def load_client_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Load the client's certificate into a context; raise SettingsError if a file is unusable."""
    for file in (cert, key):
        if why := _why_unreadable(file):
            raise _unusable(file, why)
    if key.stat().st_mode & 0o007:
        raise _unusable(key, f"others can read it; fix that with: chmod o= {key}")
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except _EncryptedKey:
        cure = f"openssl pkey -in {key} writes it unencrypted"
        raise _unusable(key, f"it is encrypted; {cure}") from None
    except ssl.SSLError as error:
        raise _why_not_loaded(cert, key, error) from None


def _no_password() -> str:
    raise _EncryptedKey


def _why_unreadable(file: Path) -> str | None:
    try:
        file.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _why_not_loaded(cert: Path, key: Path, error: ssl.SSLError) -> errors.SettingsError:
    if error.reason == "KEY_VALUES_MISMATCH":
        if _is_of_later_certificate(cert, key):
            return _unusable(cert, f"the certificate of {key} must be the first one in it")
        return _unusable(key, f"it is not the key of the certificate {cert}")
    if b"-----BEGIN CERTIFICATE-----" not in cert.read_bytes():
        return _unusable(cert, "it contains no certificate in PEM form")
    if b"PRIVATE KEY-----" not in key.read_bytes():
        return _unusable(key, "it contains no private key in PEM form")
    return _unusable(cert, (error.reason or str(error)).replace("_", " ").lower())


def _is_of_later_certificate(cert: Path, key: Path) -> bool:
    """Return whether the key belongs to a later certificate: the chain is in the wrong order."""
    end = b"-----END CERTIFICATE-----"
    _, *later = cert.read_bytes().split(end)
    return any(_is_pair(pem + end + b"\n", key) for pem in later)


def _is_pair(pem: bytes, key: Path) -> bool:
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
        f"cannot use {file} for this client's certificate: {why}; see cert and key in config.toml"
    )


# The server's certificate.


def untrusted(
    error: ssl.SSLCertVerificationError, server: str, cacert: Path | None, *, direct: bool
) -> errors.Untrusted:
    """Return the error for a server's certificate that was rejected.

    With `direct`, connect again to read the rejected certificate for the message. Nothing but the
    handshake is sent.
    """
    host, port = address.host(server), address.port(server)
    prefix = f"cannot trust {server}: "
    if error.verify_code in (_WRONG_HOST, _WRONG_ADDRESS):
        certificate = _decoded_certificate(host, port, cacert) if direct else {}
        names = ", ".join(name for _, name in certificate.get("subjectAltName", ()))
        return errors.Untrusted(
            f"{prefix}its certificate is not for {host}{names and f' but for {names}'}; "
            "use a name that is in the certificate, or issue a certificate for this name"
        )
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        certificate = _decoded_certificate(host, port, cacert) if direct else {}
        describe = _expired if error.verify_code == _EXPIRED else _not_yet_valid
        return errors.Untrusted(prefix + describe(certificate))
    der = _fetch_certificate(host, port) if direct else b""
    return errors.Untrusted(prefix + _unknown_issuer(error, cacert, der))


def _unknown_issuer(error: ssl.SSLCertVerificationError, cacert: Path | None, der: bytes) -> str:
    fingerprint = f" (SHA-256 {hashlib.sha256(der).digest().hex(':').upper()})" if der else ""
    trusted = f"the CA in {cacert}" if cacert else "a CA that this system trusts"
    chain = ""
    if error.verify_code in _NO_ISSUER:
        chain = ", or have the server send the intermediate certificates too"
    return (
        f"its certificate{fingerprint} is not from {trusted} ({error.verify_message}); "
        f"if it is the right server, name its CA's certificate with --cacert FILE{chain}"
    )


def _expired(certificate: Mapping[str, Any]) -> str:
    day = _day(certificate.get("notAfter"))
    return (
        f"its certificate expired{f' on {day}' if day else ''}, and this machine's clock "
        f"says {_now()}; renew it on the server, or set the clock"
    )


def _not_yet_valid(certificate: Mapping[str, Any]) -> str:
    day = _day(certificate.get("notBefore"))
    return (
        f"its certificate is not valid{f' before {day}' if day else ' yet'}, and this "
        f"machine's clock says {_now()}; set whichever clock is wrong"
    )


def _day(time: str | None) -> str | None:
    """Return the day of a time in the form that `ssl` gives it: "Jan  5 09:34:43 2018 GMT"."""
    if time is None:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(time), UTC).strftime("%Y-%m-%d")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _fetch_certificate(host: str, port: int) -> bytes:
    """Return the certificate that the server presents, as DER; empty when it cannot be fetched."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE  # only to read it; the connection is closed at once
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _PROBE_SECONDS) as plain,
        unchecked.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""
    return b""


def _decoded_certificate(host: str, port: int, cacert: Path | None) -> Mapping[str, Any]:
    """Return the server's certificate as `SSLSocket.getpeercert` does; empty when that fails.

    `ssl` decodes only a certificate that it has verified. This one is from a trusted issuer, and
    only its names or its dates are wrong, so those two are not checked here.
    """
    lenient = context(cacert)
    lenient.check_hostname = False
    lenient.verify_flags |= _NO_CHECK_TIME
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _PROBE_SECONDS) as plain,
        lenient.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return secure.getpeercert() or {}
    return {}
