"""The private certificate authority that `workerd init` makes, and certificates signed by it."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from worker_daemon import errors

_CA_YEARS = 20
_SERVER_YEARS = 5
# A label of a host name (RFC 1123, 2.1), and the underscore that container networks use.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_DAY = datetime.timedelta(days=1)

# All key usages of RFC 5280, 4.2.1.3, turned off.
_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


class Authority:
    """A CA: its certificate and key, both in PEM."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Use an existing certificate and key."""
        self.certificate = certificate
        self.key = key

    @classmethod
    def create(cls, name: str, names: Sequence[str] = ()) -> Authority:
        """Make a CA for the server `name`; with `names`, clients trust it only for these."""
        private = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"worker CA of {name}")
        builder = (
            _builder(subject, subject, private.public_key(), _CA_YEARS, None)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(_constraints(names), critical=True)
        return cls(_pem(builder.sign(private, hashes.SHA256())), _key_pem(private))

    @classmethod
    def read(cls, certificate: Path, key: Path) -> Authority:
        """Read a CA from files; raises CertificateError if that is not possible."""
        try:
            return cls(certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise errors.CertificateError(
                f"cannot read the CA: {error.filename}: {error.strerror}"
            ) from None

    def issue(
        self, names: Sequence[str], *, now: datetime.datetime | None = None
    ) -> tuple[bytes, bytes]:
        """Return a certificate and a new key, both in PEM, for a server with these `names`.

        Raises CertificateError if clients do not trust this CA for one of them.
        """
        ca = x509.load_pem_x509_certificate(self.certificate)
        _check_permitted(ca, names)
        private = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(names[0]), ca.subject, private.public_key(), _SERVER_YEARS, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_alternative(name) for name in names]),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
            )
            .add_extension(_issuer_key(ca), critical=False)
        )
        return _pem(builder.sign(self._private(), hashes.SHA256())), _key_pem(private)

    def _private(self) -> ec.EllipticCurvePrivateKey:
        private = serialization.load_pem_private_key(self.key, None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise errors.CertificateError("the key of the CA was not made by `workerd init`")
        return private


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    years: int,
    now: datetime.datetime | None,
) -> x509.CertificateBuilder:
    now = now or datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # the clock of a workstation may be slow
        .not_valid_after(now + 365 * years * _DAY)
    )


def _name(text: str) -> x509.Name:
    # A common name has at most 64 characters (RFC 5280, A.1). Clients do not use it.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{**_NO_USAGE, **dict.fromkeys(wanted, True)})


def _issuer_key(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _constraints(names: Sequence[str]) -> x509.NameConstraints:
    """Return the extension that restricts a CA to `names` and to names below a host name.

    The restriction applies only to kinds of names that occur in it (RFC 5280, 4.2.1.10). So
    `names` must contain a host name and an IP address.
    """
    return x509.NameConstraints([_subtree(_alternative(name)) for name in names], None)


def _subtree(name: x509.GeneralName) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_network(name.value)) if _is_address(name) else name


def _is_address(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.IPAddress)


def _check_permitted(ca: x509.Certificate, names: Sequence[str]) -> None:
    """Raise CertificateError for names that the constraints of a CA exclude."""
    try:
        extension = ca.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return
    permitted = extension.value.permitted_subtrees or []
    strangers = [name for name in names if not _permits(permitted, _alternative(name))]
    if strangers:
        known = ", ".join(
            str(each.value).removesuffix("/32").removesuffix("/128") for each in permitted
        )
        raise errors.CertificateError(
            f"cannot issue a certificate for {', '.join(strangers)}: clients trust this CA only for"
            f" {known}; make a new CA with `workerd init --directory DIRECTORY NAME …`, and"
            " give its ca.pem to all clients"
        )


def _permits(permitted: Sequence[x509.GeneralName], name: x509.GeneralName) -> bool:
    same = [each for each in permitted if type(each) is type(name)]
    if _is_address(name):
        return any(name.value in each.value for each in same)
    host = name.value.lower()
    return any(
        host == each.value.lower() or host.endswith(f".{each.value.lower()}") for each in same
    )


def names_of(certificate: Path) -> list[str]:
    """Return the names and addresses that a server's certificate is for.

    Raises CertificateError when the file has none.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except OSError as error:
        why = str(error.strerror)
    except (ValueError, x509.ExtensionNotFound):
        why = "it is not the certificate of a server"
    else:
        return [str(each.value) for each in extension.value]
    raise errors.CertificateError(
        f"cannot read the names in {certificate}: {why}; give them: `workerd init --renew NAME …`"
    )


def check_name(name: str) -> None:
    """Raise CertificateError if `name` is neither a host name nor an IP address."""
    _alternative(name)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        host = name.encode("idna").decode("ascii")
    except UnicodeError:
        host = ""
    *parents, last = host.split(".")
    # A name of several labels that ends in a number is a mistyped address: no top-level domain is a
    # number (RFC 3696, 2).
    mistyped = parents and last.isdigit()
    if mistyped or not all(map(_LABEL.fullmatch, host.split("."))):
        raise errors.CertificateError(f"{name!r} is neither a host name nor an IP address")
    return x509.DNSName(host)


def _pem(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


def _key_pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
