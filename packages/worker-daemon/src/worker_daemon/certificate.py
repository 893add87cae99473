"""What the daemon reads from a certificate: its dates, and whether its key is a published one.

Published keys are those of the development certificates in the sources. They are recognised by the
SHA-256 of the public key (SubjectPublicKeyInfo), so that a renamed file or another certificate for
the same key is found, too.

The few fields are read from the DER here and not with `cryptography`. Each start of workerd would
load that package for them, which takes 60 ms and 10 MB: a fifth of the time until it listens.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

PUBLISHED = frozenset(
    line.split()[0]
    for line in Path(__file__).with_name("published_keys.txt").read_text("ascii").splitlines()
    if line and not line.startswith("#")
)

# Fields of a certificate, counted from the serial number.
_VALIDITY, _KEY = 3, 5
# Tags of DER.
_VERSION, _UTC_TIME = 0xA0, 0x17

_Element = tuple[int, bytes, bytes]
_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def is_published(path: Path) -> bool:
    """Return whether any certificate of a PEM file holds a published key.

    A file without a readable certificate holds none; that it cannot be served is another fault.
    """
    return not PUBLISHED.isdisjoint(fingerprints(path))


def fingerprints(path: Path) -> list[str]:
    """Return the fingerprint of the public key of each certificate in a PEM file."""
    return [hashlib.sha256(public_key(der)).hexdigest() for der in load(path)]


def load(path: Path) -> list[bytes]:
    """Return the certificates of a PEM file, each in DER; anything else is left out."""
    found = []
    for pem in _PEM.findall(path.read_text("latin-1")):
        with contextlib.suppress(ValueError):
            der = ssl.PEM_cert_to_DER_cert(pem)
            _fields(der)
            found.append(der)
    return found


def public_key(der: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate, both in DER."""
    return _fields(der)[_KEY][2]


def validity(der: bytes) -> tuple[datetime.datetime, datetime.datetime]:
    """Return the first and the last moment at which a certificate is valid."""
    first, last = (_time(tag, content) for tag, content, _ in _elements(_fields(der)[_VALIDITY][1]))
    return first, last


def _time(tag: int, content: bytes) -> datetime.datetime:
    # RFC 5280, 4.1.2.5: UTCTime has two digits for the year, from 1950 on; both end in Z.
    text = content.decode("ascii").replace("Z", "+0000")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%S%z")


def _fields(der: bytes) -> list[_Element]:
    """Return the fields of a TBSCertificate from the serial number on (RFC 5280, 4.1).

    Raises ValueError when `der` is not a certificate.
    """
    try:
        (_, outer, _), *_ = _elements(der)
        (_, tbs, _), *_ = _elements(outer)
        fields = list(_elements(tbs))
        fields = fields[1:] if fields[0][0] == _VERSION else fields
        fields[_KEY]
    except (IndexError, ValueError):
        raise ValueError("not a certificate in DER") from None
    return fields


def _elements(der: bytes) -> Iterator[_Element]:
    """Yield the tag, the content, and the whole encoding of each element in `der`."""
    at = 0
    while at < len(der):
        length, start = der[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[at + 2 : start], "big")
        yield der[at], der[start : start + length], der[at : start + length]
        at = start + length
