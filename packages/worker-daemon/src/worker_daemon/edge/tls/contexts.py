"""The TLS context of the server, made from the settings."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from worker_daemon import certificate, errors
from worker_daemon.settings import config

_CURE = "`workerd init` makes a certificate, or name yours with --cert and --key"
_CLIENT_CURE = "client_ca names the CA that signed the certificates of the clients"
PROTOCOL = b"http/1.1"  # the one that is spoken, by its ALPN name
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Tls:
    """The TLS context of new connections. `reload` replaces it; open connections keep theirs."""

    def __init__(self, settings: config.Config) -> None:
        """Load certificate, key and client CA; raises CertificateError if one cannot be used."""
        self.context = context(settings)

    def reload(self, settings: config.Config) -> None:
        """Load the files again. If this raises CertificateError, nothing has changed."""
        self.context = context(settings)


def context(settings: config.Config) -> ssl.SSLContext:
    """Return a server's TLS context; raises CertificateError with the fault and its cure."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = _VERSIONS[settings.tls_min_version]
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_alpn_protocols([PROTOCOL.decode()])
    # No session tickets: most clients send one request, and none resumes a session. A ticket would
    # cost each client a record.
    made.num_tickets = 0
    _load_pair(made, settings.cert, settings.key)
    if settings.client_ca is not None:
        _load_client_ca(made, settings.client_ca)
    return made


def faults(settings: config.Config) -> list[str]:
    """Return which of the files cannot be read; raise CertificateError for any other fault."""
    files = [(settings.cert, _CURE), (settings.key, _CURE)]
    files += [(settings.client_ca, _CLIENT_CURE)] if settings.client_ca is not None else []
    found = [fault for path, cure in files for fault in _unreadable(path, cure)]
    if not found:
        context(settings)
    return found


def _load_pair(made: ssl.SSLContext, cert: Path, key: Path) -> None:
    for path in (cert, key):
        _need(path, _CURE)
    if key.stat().st_mode & 0o007 and not certificate.is_published(cert):
        raise errors.CertificateError(f"cannot use {key}: others can read it; `chmod o= {key}`")
    try:
        made.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise errors.CertificateError(_pair_fault(cert, key, error)) from None
    except _Encrypted:
        raise errors.CertificateError(
            f"cannot use {key}: it is encrypted; `openssl pkey -in {key}` writes it in the clear"
        ) from None


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    raise _Encrypted


def _pair_fault(cert: Path, key: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        if any(_belong_together(each, key) for each in certificate.load(cert)[1:]):
            return (
                f"cannot use {cert}: the certificate of {key} must be the first one in it, before "
                "those that signed it; change their order"
            )
        return f"{key} is not the key of the certificate {cert}"
    if not certificate.fingerprints(cert):
        return f"cannot use {cert}: it is not a certificate in PEM format"
    if error.reason in {"EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"}:
        return f"cannot use {cert}: it is too weak ({error.reason}); make a new one"
    return f"cannot use {key}: it is not a private key in PEM format ({error.reason})"


def _belong_together(der: bytes, key: Path) -> bool:
    with tempfile.NamedTemporaryFile() as file:
        file.write(ssl.DER_cert_to_PEM_cert(der).encode("ascii"))
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name, key)
        except ssl.SSLError:
            return False
    return True


def _load_client_ca(made: ssl.SSLContext, path: Path) -> None:
    _need(path, _CLIENT_CURE)
    try:
        made.load_verify_locations(path)
    except ssl.SSLError:
        raise errors.CertificateError(
            f"cannot use {path}: it is not a certificate in PEM format"
        ) from None
    made.verify_mode = ssl.CERT_REQUIRED


def _need(path: Path, cure: str) -> None:
    if found := _unreadable(path, cure):
        raise errors.CertificateError(found[0])


def _unreadable(path: Path, cure: str) -> list[str]:
    try:
        with path.open("rb"):
            return []
    except FileNotFoundError:
        return [f"there is no {path}; {cure}"]
    except OSError as error:
        return [f"cannot read {path}: {error.strerror}"]
