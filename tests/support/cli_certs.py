"""Certificates for tests: one that a client must accept, and ones that are wrong in one way."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key as PEM files."""

    cert: Path
    key: Path
    fingerprint: str
    """SHA-256 of the certificate, as upper-case pairs with colons between."""


class Authority:
    """A CA with a key of its own. All have the same subject, so that only the keys differ."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("worker test CA")
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            _builder(self._name, self._name, self._key, now - DAY, now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(_ski(self._key), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.cert = directory / f"{name}.pem"
        self.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, hosts: tuple[str, ...] = ("localhost", "127.0.0.1"), days: int = 30
    ) -> Identity:
        """Make a server certificate; with negative `days` one that expired that long ago."""
        now = datetime.datetime.now(datetime.UTC)
        begin, end = (
            (now - DAY, now + days * DAY) if days > 0 else (now + days * 2 * DAY, now + days * DAY)
        )
        return self._issue(name, hosts, begin, end)

    def issue_for_later(self, name: str) -> Identity:
        """Make a server certificate that begins in thirty days."""
        now = datetime.datetime.now(datetime.UTC)
        return self._issue(name, ("localhost", "127.0.0.1"), now + 30 * DAY, now + 60 * DAY)

    def issue_to_client(self, name: str) -> Identity:
        """Make a client certificate."""
        now = datetime.datetime.now(datetime.UTC)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(name, ("client",), now - DAY, now + 30 * DAY, purpose)

    def _issue(
        self,
        name: str,
        hosts: tuple[str, ...],
        begin: datetime.datetime,
        end: datetime.datetime,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name("worker test server"), self._name, key, begin, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_host(each) for each in hosts]), False)
            .add_extension(_ski(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
            .sign(self._key, hashes.SHA256())
        )
        cert_file, key_file = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        digest = certificate.fingerprint(hashes.SHA256())
        return Identity(cert_file, key_file, digest.hex(":").upper())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _ski(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
