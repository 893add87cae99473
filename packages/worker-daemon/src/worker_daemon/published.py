"""Keys that everybody has: those of the development certificates in the sources.

A key is recognised by the SHA-256 of its public part (a certificate's SubjectPublicKeyInfo), so
that neither a renamed file nor another certificate over the same key hides it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path

KEYS = frozenset(
    line.split()[0]
    for line in Path(__file__).with_name("published_keys.txt").read_text("ascii").splitlines()
    if line and not line.startswith("#")
)

_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def is_published(certificate: Path) -> bool:
    """Say whether any certificate of a PEM file holds a published key.

    A file that cannot be read as certificates holds none; who serves it will be told so.
    """
    return not KEYS.isdisjoint(fingerprints(certificate))


def exposed(addresses: Iterable[str]) -> list[str]:
    """Return those IP addresses that can be reached from other machines."""
    return [address for address in addresses if not ipaddress.ip_address(address).is_loopback]


def fingerprints(certificate: Path) -> list[str]:
    """Return the fingerprint of the public key of each certificate in a PEM file."""
    found = []
    for pem in _PEM.findall(certificate.read_text("latin-1")):
        try:
            key = public_key(ssl.PEM_cert_to_DER_cert(pem))
        except ValueError:
            continue
        found.append(hashlib.sha256(key).hexdigest())
    return found


def public_key(certificate: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate, both in DER.

    RFC 5280, 4.1: Certificate is a sequence whose first element, TBSCertificate, has an optional
    version (tag 0xA0), then serial number, signature, issuer, validity, subject and the key.
    Raises ValueError when it is no certificate.
    """
    try:
        (_, outer, _), *_ = _elements(certificate)
        (_, tbs, _), *_ = _elements(outer)
        elements = list(_elements(tbs))
        return elements[6 if elements[0][0] == 0xA0 else 5][2]
    except (IndexError, ValueError):
        raise ValueError("not a certificate in DER") from None


def _elements(der: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield tag, content and the whole of each element in `der`."""
    at = 0
    while at < len(der):
        length, start = der[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[at + 2 : start], "big")
        yield der[at], der[start : start + length], der[at : start + length]
        at = start + length
