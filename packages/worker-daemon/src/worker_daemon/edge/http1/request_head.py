"""The head of an HTTP/1 request: request line and header fields (RFC 9112), parsed in one pass.

No regular expression is used. `partition` and `split` cut the text, and `translate` checks it. Each
of them looks at every byte once, so that the cost of a head grows only with its length.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_FIELDS = 128  # header fields of a request
MAX_TARGET = 8192  # bytes; RFC 9110, 4.1, asks for at least 8000
_MAX_METHOD = 32  # bytes
_MAX_LENGTH_DIGITS = 18  # digits of Content-Length

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TARGET = bytes(range(0x21, 0x7F))
FIELD_VALUE = b"\t " + _TARGET + bytes(range(0x80, 0x100))  # RFC 9110, 5.5
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
# With two of these, workerd and a proxy in front of it could choose different ones.
_ONCE = ("HOST", "CONTENT_LENGTH", "TRANSFER_ENCODING", "AUTHORIZATION", "EXPECT")


class Malformed(Exception):
    """The bytes received are not a request that is accepted; `status` is the answer's status."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class Head(NamedTuple):
    """The head of a request. `length` is that of the body; None means that it is chunked."""

    method: str
    target: str
    path: str
    query: str
    version: str
    fields: dict[str, str]  # by name as in a WSGI environment, without HTTP_
    length: int | None


def consists_of(text: bytes, allowed: bytes) -> bool:
    """Return whether `text` has at least one byte and only bytes of `allowed`."""
    return bool(text) and not text.translate(None, allowed)


def read_head(head: bytes) -> Head:
    """Parse a head, without the empty line at its end; raise Malformed."""
    first, *lines = head.split(b"\r\n")
    method, target, version = _request_line(first)
    path, query = _split(target)
    fields = _fields(lines)
    length = _body_length(version, fields)
    host = fields.get("HOST")
    if host is None and version == "1.1":
        raise Malformed("the Host header is missing")
    if host is not None and "," in host:
        raise Malformed("the Host header names more than one host")
    return Head(
        method.decode("ascii"), target.decode("ascii"), path, query, version, fields, length
    )


def _request_line(line: bytes) -> tuple[bytes, bytes, str]:
    method, _, rest = line.partition(b" ")
    target, _, protocol = rest.rstrip(b" \t").partition(b" ")
    if not consists_of(method, _TOKEN) or method != method.upper():
        raise Malformed("the request line does not begin with a method in capital letters")
    if len(method) > _MAX_METHOD:
        raise Malformed(f"the method is longer than {_MAX_METHOD} bytes")
    if len(target) > MAX_TARGET:
        raise Malformed(f"the target is longer than {MAX_TARGET} bytes", 414)
    if not consists_of(target, _TARGET):
        raise Malformed("the request line is not METHOD TARGET HTTP/1.1 in ASCII")
    if protocol not in _VERSIONS:
        raise Malformed("only HTTP/1.1 and HTTP/1.0 are supported")
    return method, target, _VERSIONS[protocol]


def _fields(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > MAX_FIELDS:
        raise Malformed(f"there are more than {MAX_FIELDS} header fields", 431)
    found: dict[str, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not consists_of(name, _TOKEN):  # this includes every folded line
            raise Malformed("a header field is not NAME: VALUE on one line")
        if value.translate(None, FIELD_VALUE):
            raise Malformed("a header field has control characters")
        if b"_" not in name:  # in a WSGI environment it would look like the name with "-"
            key = name.upper().replace(b"-", b"_").decode("ascii")
            found.setdefault(key, []).append(value.strip(b" \t"))
    for key in _ONCE:
        if len(found.get(key, ())) > 1:
            raise Malformed(f"there is more than one {key.replace('_', '-').title()} header")
    return {key: b", ".join(values).decode("latin-1") for key, values in found.items()}


def _split(target: bytes) -> tuple[str, str]:
    """Return path and query of a target in origin or absolute form (RFC 9112, 3.2)."""
    path, _, query = target.partition(b"#")[0].partition(b"?")
    if not path.startswith(b"/") and target != b"*":
        path = _path_of_url(path)
    if b"%" in path:
        path = unquote_to_bytes(path)
    return path.decode("latin-1"), query.decode("latin-1")


def _path_of_url(url: bytes) -> bytes:
    scheme, separator, rest = url.partition(b"://")
    authority, _, path = rest.partition(b"/")
    if authority.startswith(b"["):  # an IPv6 address
        address, closed, authority = authority[1:].partition(b"]")
        separator = separator and closed and address
    known = scheme.lower() in (b"http", b"https")
    if not (separator and known) or b"[" in authority or b"]" in authority:
        raise Malformed("the target is neither a path nor an https:// address")
    return b"/" + path


def _body_length(version: str, fields: dict[str, str]) -> int | None:
    """Return the length of the body, None if it is chunked (RFC 9112, 6)."""
    coding, length = fields.pop("TRANSFER_ENCODING", None), fields.get("CONTENT_LENGTH")
    if coding is not None:
        _check_coding(coding, version)
        if length is not None:
            raise Malformed("both Transfer-Encoding and Content-Length are given")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS):
        raise Malformed(f"Content-Length is not a number of at most {_MAX_LENGTH_DIGITS} digits")
    return int(length)


def _check_coding(coding: str, version: str) -> None:
    if coding.lower() == "chunked" and version == "1.1":
        return
    unknown = {name.strip(" \t").lower() for name in coding.split(",")} - {"chunked", ""}
    if unknown and version == "1.1":
        raise Malformed("of the transfer codings only chunked is supported", 501)
    raise Malformed("Transfer-Encoding must be chunked, once, and needs HTTP/1.1")
