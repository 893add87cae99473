"""The development certificates: what is in them, and that strict clients accept them."""

import contextlib
import datetime
import ipaddress
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

CERTS = Path(__file__).parents[2] / "certs"
NAMES = ["ca", "server"]


def certificate(name: str, directory: Path = CERTS) -> x509.Certificate:
    """Read one of the two certificates."""
    return x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())


def shake_hands(name: str, ca: Path, directory: Path = CERTS) -> str:
    """Shake hands in memory with a strict client that asks for `name`; return the version."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(directory / "server.pem", directory / "server.key")
    client_context = ssl.create_default_context(cafile=ca)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=name)
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client.version() or ""


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_strict_client_accepts_every_loopback_name(name: str) -> None:
    """Python 3.13 verifies strictly: the demo would fail there, and nowhere else."""
    assert shake_hands(name, CERTS / "ca.pem") == "TLSv1.3"


@pytest.mark.parametrize("name", ["example.org", "127.0.0.2"])
def test_other_names_are_refused(name: str) -> None:
    """A client that trusts the development CA would talk to anybody."""
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(name, CERTS / "ca.pem")


@pytest.mark.parametrize("name", NAMES)
def test_they_are_valid_for_thirty_years(name: str) -> None:
    """Demo certificates that run out break every clone that is older."""
    found = certificate(name)
    assert found.not_valid_before_utc == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert found.not_valid_after_utc == datetime.datetime(2056, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize("name", NAMES)
def test_each_key_is_that_of_its_certificate(name: str) -> None:
    """A key that was made again without its certificate stops every server."""
    key = load_pem_private_key((CERTS / f"{name}.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate(name).public_key()


def test_the_ca_can_certify_loopback_names_only() -> None:
    """The CA's key is published: who trusts it would trust everybody for every name."""
    extensions = certificate("ca").extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    limits = extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert set(limits.value.permitted_subtrees or ()) == {
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
        x509.IPAddress(ipaddress.ip_network("::1/128")),
    }


def test_what_somebody_signs_with_the_published_key_is_refused(tmp_path: Path) -> None:
    """Everybody has the CA's key; a workstation that trusts it must stay safe from them all."""
    authority = load_pem_private_key((CERTS / "ca.key").read_bytes(), None)
    assert isinstance(authority, ec.EllipticCurvePrivateKey)
    model = certificate("server")
    forged = x509.CertificateBuilder(
        issuer_name=model.issuer,
        subject_name=model.subject,
        public_key=model.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=model.not_valid_before_utc,
        not_valid_after=model.not_valid_after_utc,
    )
    names = x509.SubjectAlternativeName([x509.DNSName("example.org")])
    for extension in model.extensions:
        ours = names if isinstance(extension.value, x509.SubjectAlternativeName) else None
        forged = forged.add_extension(ours or extension.value, extension.critical)
    signed = forged.sign(authority, hashes.SHA256())
    shutil.copy(CERTS / "server.key", tmp_path)
    (tmp_path / "server.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands("example.org", CERTS / "ca.pem", tmp_path)


def test_the_server_certificate_is_for_a_server_on_loopback() -> None:
    """A name too many would let the published key pass for another machine."""
    extensions = certificate("server").extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_one_command_makes_a_set_that_works(tmp_path: Path) -> None:
    """When the files have to be made again, the only way to do it must still go."""
    done = subprocess.run([CERTS / "make", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shake_hands("localhost", tmp_path / "ca.pem", tmp_path) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands("localhost", CERTS / "ca.pem", tmp_path)
