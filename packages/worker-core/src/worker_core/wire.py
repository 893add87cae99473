"""Messages between an engine and its supervisor: framing, versions and the list of messages.

A frame is four bytes of length (big-endian) and that many bytes of JSON, an object. Each side
sends `{"hello": "worker", "protocol": N, …}` first. That of the supervisor has `able`, the limits
that it can enforce: `{"controllers": […], "cure": "…", "open_files": most}`. Then the engine sends

    {"op": "start", "id", "spec"}              started or exited follows, or both; `stdin`
                                               is a path
    {"op": "kill", "id", "reason", "signal", "grace"}                      exited follows
    {"op": "signal", "id", "signal"}
    {"op": "query", "ids", "token"}            answered by one "known" with the same token
    {"op": "kept"}                             with the descriptor (SCM_RIGHTS) that the engine
                                               keeps for the previous supervisor, if any;
                                               answered by "kept"
    {"op": "upgrade"}                          the supervisor executes its program again
    {"op": "shutdown"}                         it ends every job and then itself

and the supervisor sends

    {"event": "started", "id", "pid", "at", "enforced"}
    {"event": "exited", "id", "exit"}          `exit` as in exit.json, which is written before
    {"event": "known", "token", "jobs"}        id -> {"exit": …}, {} or {"running": as pid.json,
                                               "stopping": whether it was asked to end, and if
                                               so "signalled": which signals were sent for that,
                                               "kill_in": seconds until SIGKILL is due};
                                               also "fault": why it starts no job, or null, and
                                               "hanging": how many starts hang
    {"event": "kept"}                          with a descriptor, which the engine keeps instead
                                               of the previous one; sent only to an engine that
                                               has sent "kept", which older ones do not
"""

from __future__ import annotations

import json
import struct
from typing import Any

from worker_core.model import encoding

PROTOCOL = 2
"""Increased when the two sides would not understand each other. An engine upgrades a supervisor
that has a lower number, in place; see executors/local.py."""

REVISION = 1
"""Increased when a supervisor with a lower number understands everything but does less. It is also
upgraded in place; an older engine keeps using a newer supervisor."""

MAX_FRAME = 128 << 20
"""Bytes. The arguments and environment of the largest request fit, however they are escaped."""

_MAX_PARTS = 8 << 20

Message = dict[str, Any]

_LENGTH = struct.Struct(">I")


class ProtocolError(Exception):
    """The other side sent something that is not a frame of this protocol."""


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    body = encoding.compact_json(message).encode("ascii")
    return _LENGTH.pack(len(body)) + body


def hello(**more: object) -> Message:
    """Return the first message of either side."""
    return {"hello": "worker", "protocol": PROTOCOL, "revision": REVISION, **more}


class Decoder:
    """Cuts a stream of bytes into messages."""

    def __init__(self, most: int = MAX_FRAME) -> None:
        """`most` bounds a frame, in bytes."""
        self.most = most
        self._data = bytearray()

    def __len__(self) -> int:
        """Return how many bytes wait for the rest of their message."""
        return len(self._data)

    @property
    def missing(self) -> int:
        """How many bytes complete the message that was received in part."""
        if len(self._data) < _LENGTH.size:
            return _LENGTH.size - len(self._data)
        (length,) = _LENGTH.unpack_from(self._data)
        return int(_LENGTH.size + length - len(self._data))

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes that were read; return the messages that are complete now."""
        self._data += data
        messages = []
        at = 0
        while len(self._data) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data, at)
            if length > self.most:
                raise ProtocolError(f"a frame of {length} bytes")
            if len(self._data) - at < _LENGTH.size + length:
                break
            at += _LENGTH.size
            messages.append(_decode(self._data[at : at + length]))
            at += length
        del self._data[:at]
        return messages


def _decode(body: bytearray) -> Message:
    # A list of empty lists takes thirty times its length in memory. No program can be started with
    # so many arguments that its message needs more commas and brackets than this.
    if len(body) > _MAX_PARTS and sum(map(body.count, b"[{,:")) > _MAX_PARTS:
        raise ProtocolError("too many parts")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("not an object")
    return message
