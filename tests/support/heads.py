"""Requests for the tests of the HTTP reader: positions of the grammar; waitress's own parser."""

import re
import threading
from types import SimpleNamespace

from waitress import parser, receiver

# What regular expressions, splitters and decoders are known to stumble over, alone and in pairs.
OCTETS = [
    *(
        bytes([octet])
        for octet in b' \t\r\n\0\x01\x0b\x0c\x7f\x80\x85\xa0\xff,;:="\\%/?#[]@&+-._01aA*'
    ),
    *(b"\r\n", b"\r\n ", b"%41", b"%zz", b"a,", b"a;", b"a=b;", b'"a",', b"a/b,", b"a=", b"://"),
    *(b"\n ", b" a", b"\ta", b'\\"', b";q=0.1,", b"a:", b"A: b\r\n", b"=?", b"\xc3\xa9"),
]

# `%s` is where an octet is repeated.
_LINE = b"GET / HTTP/1.1\r\nHost: x\r\n"
POSITIONS = {
    "before": b"%s" + _LINE + b"\r\n",
    "method": b"G%sT / HTTP/1.1\r\nHost: x\r\n\r\n",
    "after the method": b"GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "path": b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "target and more": b"GET a://%s x y\r\nHost: x\r\n\r\n",
    "scheme": b"GET %s://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority": b"GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "port": b"GET http://x:%s/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "address": b"GET http://[%s]/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "query": b"GET /?a=%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": b"GET /?a#%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "version": b"GET / HTTP/1.%s\r\nHost: x\r\n\r\n",
    "after the version": b"GET / HTTP/1.1%s\r\nHost: x\r\n\r\n",
    "field name": _LINE + b"X%s: a\r\n\r\n",
    "after the name": _LINE + b"X%s\r\n\r\n",
    "before the colon": _LINE + b"X %s: a\r\n\r\n",
    "before the value": _LINE + b"X:%sa\r\n\r\n",
    "before an illegal octet": _LINE + b"X:%s\0\r\n\r\n",
    "in the value": _LINE + b"X: a%sa\r\n\r\n",
    "after the value": _LINE + b"X: a%s\r\n\r\n",
    "folded": _LINE + b"X: a\r\n %s\r\n\r\n",
    "folded after nothing": _LINE + b"X:\r\n\t%sa\r\n\r\n",
    "instead of fields": b"GET / HTTP/1.1\r\n%s\r\n\r\n",
    "host": b"GET / HTTP/1.1\r\nHost: x%s\r\n\r\n",
    "length": _LINE + b"Content-Length: 1%s\r\n\r\n",
    "coding": _LINE + b"Transfer-Encoding: %schunked\r\n\r\n",
    "coding list": _LINE + b"Transfer-Encoding: chunked%s\r\n\r\n",
    "expectation": _LINE + b"Expect: 100-continue%s\r\n\r\n",
    "connection": _LINE + b"Connection: close%s\r\n\r\n",
}
_CHUNKS = _LINE + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = {
    "chunk size": _CHUNKS + b"%s5\r\nabcde\r\n0\r\n\r\n",
    "after the size": _CHUNKS + b"5%s\r\nabcde\r\n0\r\n\r\n",
    "extension": _CHUNKS + b"5;%s\r\nabcde\r\n0\r\n\r\n",
    "extension value": _CHUNKS + b'5;a="%s"\r\nabcde\r\n0\r\n\r\n',
    "after a chunk": _CHUNKS + b"5\r\nabcde%s\r\n0\r\n\r\n",
    "trailer name": _CHUNKS + b"0\r\nX%s: a\r\n\r\n",
    "trailer value": _CHUNKS + b"0\r\nX:%sa\r\n\r\n",
    "chunks": _CHUNKS + b"1\r\na\r\n%s0\r\n\r\n",
}


def filled(position: bytes, octet: bytes, size: int) -> bytes:
    """Return a request with `octet` repeated up to `size` bytes at its position."""
    before, after = position.split(b"%s")
    return before + octet * (size // len(octet)) + after


def adjustments(*, head: int = 1 << 20, body: int = 1 << 20) -> SimpleNamespace:
    """Return the settings of waitress that a reader of requests looks at."""
    return SimpleNamespace(
        max_request_header_size=head + 1,
        max_request_body_size=body + 1,
        inbuf_overflow=1 << 20,
        url_scheme="https",
        stored_bodies=threading.BoundedSemaphore(1),
    )


_LEGAL = b"\t\r\n" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_CODINGS = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")


class Oracle(parser.HTTPRequestParser):
    """waitress's parser with the additional rules that workerd always had."""

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        chunks = self.body_rcv
        if isinstance(chunks, receiver.ChunkedReceiver) and (
            len(chunks.control_line) > 4096 or len(chunks.trailer) > 4096
        ):
            self.error, self.completed = parser.BadRequest("a long line"), True
        return consumed

    def parse_header(self, head: bytes) -> None:
        if head.translate(None, _LEGAL):
            raise parser.ParsingError("The head has control characters")
        try:
            super().parse_header(head)
        except ValueError as error:
            raise parser.ParsingError(f"The head cannot be read: {error}") from None
        if self.version not in ("1.0", "1.1"):
            raise parser.ParsingError("Only HTTP/1.1 and HTTP/1.0")
        codings = [value.strip().lower() for value in _CODINGS.findall(head)]
        if codings and "CONTENT_LENGTH" in self.headers:
            raise parser.ParsingError("Both Transfer-Encoding and Content-Length")
        if codings and (codings != [b"chunked"] or not self.chunked):
            raise parser.ParsingError("Transfer-Encoding is chunked, once")
        host = self.headers.get("HOST")
        if host is None and self.version == "1.1":
            raise parser.ParsingError("No Host")
        if host is not None and "," in host:
            raise parser.ParsingError("More than one Host")
