"""Which servers are believed, and what is said of one that is not.

Only the CA that was named is trusted, and nothing in the environment adds to it. Without one the
system's are, which OpenSSL looks for where SSL_CERT_FILE and SSL_CERT_DIR say, if they are set.
Nothing turns the check off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker_cli import errors
from worker_cli.net import address

# X509_V_ERR_* of OpenSSL's x509_vfy.h: the only stable names for what was wrong.
_NO_ISSUER = (20, 21)
_NOT_YET_VALID, _EXPIRED, _WRONG_HOST, _WRONG_ADDRESS = 9, 10, 62, 64

_PROBE_SECONDS = 5.0


def context(cacert: Path | None) -> ssl.SSLContext:
    """Return a context that trusts `cacert` alone, or the system's CAs when there is none.

    Raises Untrusted when the file holds nothing that could be trusted, and SettingsError when
    SSLKEYLOGFILE names a file that cannot be written.
    """
    _check_key_log(os.environ.get("SSLKEYLOGFILE"))
    try:
        return ssl.create_default_context(cafile=cacert)
    except ssl.SSLError:
        why = "it holds no certificate in PEM form"
    except OSError as error:
        why = error.strerror or str(error)
    raise errors.Untrusted(
        f"cannot use {cacert} as the CA to trust: {why}; name the CA's certificate with --cacert"
    )


def _check_key_log(name: str | None) -> None:
    """Open the file for the secrets of connections, as `ssl` is about to do without naming it."""
    try:
        if name:
            open(name, "ab").close()
    except OSError as error:
        raise errors.SettingsError(
            f"cannot write {name}, which SSLKEYLOGFILE names: {error.strerror}; "
            "name another file, or unset SSLKEYLOGFILE"
        ) from None


def explain(
    error: ssl.SSLCertVerificationError, server: str, cacert: Path | None, *, direct: bool
) -> errors.Untrusted:
    """Return the error for a certificate that was refused; with `direct` it is fetched to be shown.

    Fetching sends nothing but the handshake.
    """
    host, port = address.host(server), address.port(server)
    told = f"cannot trust {server}: "
    if error.verify_code in (_WRONG_HOST, _WRONG_ADDRESS):
        names = _names(host, port, cacert) if direct else ""
        return errors.Untrusted(
            f"{told}its certificate is not for {host}{names and f' but for {names}'}; "
            "use the name that is in the certificate, or have one made for this name"
        )
    certificate = _presented(host, port) if direct else b""
    if error.verify_code == _EXPIRED:
        return errors.Untrusted(told + _expired(certificate))
    if error.verify_code == _NOT_YET_VALID:
        return errors.Untrusted(told + _not_yet_valid(certificate))
    return errors.Untrusted(told + _unknown_signer(error, cacert, certificate))


def _unknown_signer(
    error: ssl.SSLCertVerificationError, cacert: Path | None, certificate: bytes
) -> str:
    shown = f" (SHA-256 {_fingerprint(certificate)})" if certificate else ""
    trusted = f"the CA in {cacert}" if cacert else "a CA that this system trusts"
    chain = ""
    if error.verify_code in _NO_ISSUER:
        chain = ", or have it send the certificates between the two"
    return (
        f"its certificate{shown} does not come from {trusted} ({error.verify_message}); "
        f"if it is the right server, name its CA's certificate with --cacert FILE{chain}"
    )


def _expired(certificate: bytes) -> str:
    days = _validity(certificate)
    return (
        f"its certificate has expired{f' on {days[1]}' if days else ''}, and this machine's clock "
        f"says {_now()}; have it renewed on the server, or set the clock"
    )


def _not_yet_valid(certificate: bytes) -> str:
    days = _validity(certificate)
    return (
        f"its certificate is not valid{f' before {days[0]}' if days else ' yet'}, and this "
        f"machine's clock says {_now()}; set the clock of the one that is wrong"
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _presented(host: str, port: int) -> bytes:
    """Return the certificate that the server shows, as DER; empty when it cannot be had."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE  # only to look at it; the connection is closed at once
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _PROBE_SECONDS) as plain,
        unchecked.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""
    return b""


def _names(host: str, port: int, cacert: Path | None) -> str:
    """Return the names in the server's certificate, whose signer is trusted."""
    nameless = context(cacert)
    nameless.check_hostname = False
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _PROBE_SECONDS) as plain,
        nameless.wrap_socket(plain, server_hostname=host) as secure,
    ):
        certificate: Any = secure.getpeercert() or {}
        return ", ".join(name for _, name in certificate.get("subjectAltName", ()))
    return ""


def _fingerprint(certificate: bytes) -> str:
    return hashlib.sha256(certificate).digest().hex(":").upper()


def _validity(certificate: bytes) -> list[str]:
    """Return the first and the last day of a certificate, or nothing where they are not found.

    Python shows no fields of a certificate that it refused. The two times are the first values
    of type UTCTime or GeneralizedTime in it (RFC 5280, section 4.1.2.5).
    """
    found = re.findall(rb"\x17\x0d(\d{6})\d{6}Z|\x18\x0f(\d{8})\d{6}Z", certificate)[:2]
    # Two-digit years from 50 on belong to the last century.
    days = [long or (b"19" if short >= b"50" else b"20") + short for short, long in found]
    texts = [day.decode("ascii") for day in days]
    return [f"{text[:4]}-{text[4:6]}-{text[6:]}" for text in texts] if len(texts) == 2 else []
