"""Which application protocols a TLS ClientHello offers (RFC 8446, 4.1.2; ALPN is RFC 7301).

When a client offers no protocol that the server speaks, the handshake must be refused, but
Python's ssl continues without a protocol. So the server looks at the hello before OpenSSL reads it.
"""

from __future__ import annotations

RECORD_HEAD = 5  # bytes
LONGEST = RECORD_HEAD + 16384  # bytes of a record
_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16
NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"  # a fatal alert


def record_length(data: bytes) -> int:
    """Return the length of the record at the beginning of `data`, including its head."""
    if len(data) < RECORD_HEAD:
        return RECORD_HEAD
    return RECORD_HEAD + int.from_bytes(data[3:5], "big")


def protocols(record: bytes) -> list[bytes] | None:
    """Return the protocols that a hello in one record offers; None if it has no such list.

    For a malformed hello this returns None, too: OpenSSL then refuses it with the right alert.
    """
    try:
        return _protocols(_Reader(record))
    except IndexError:
        return None


class _Reader:
    """Reads blocks that begin with their length, in one, two or three bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        """Return the next bytes; raise IndexError if there are fewer."""
        end = self.at + length
        if end > len(self.data):
            raise IndexError(length)
        taken, self.at = self.data[self.at : end], end
        return taken

    def block(self, size_bytes: int) -> bytes:
        """Return the bytes after a length of `size_bytes` bytes."""
        return self.take(int.from_bytes(self.take(size_bytes), "big"))

    @property
    def left(self) -> bool:
        """Whether there are more bytes."""
        return self.at < len(self.data)


def _protocols(record: _Reader) -> list[bytes] | None:
    if record.take(3)[0] != _HANDSHAKE:
        return None
    message = _Reader(record.block(2))
    if message.take(1)[0] != _CLIENT_HELLO:
        return None
    hello = _Reader(message.block(3))
    hello.take(2 + 32)  # version and random
    for size_bytes in (1, 2, 1):  # session id, cipher suites, compression methods
        hello.block(size_bytes)
    extensions = _Reader(hello.block(2))
    while extensions.left:
        kind, content = int.from_bytes(extensions.take(2), "big"), extensions.block(2)
        if kind == _ALPN:
            return _names(_Reader(_Reader(content).block(2)))
    return None


def _names(names: _Reader) -> list[bytes]:
    found = []
    while names.left:
        found.append(names.block(1))
    return found
