"""Parse requests, for waitress's channel and tasks.

waitress's own parser is not used, because its time grows with the square of a head's length: its
regular expressions do that, and for each further byte it searches the whole head again.
"""

from __future__ import annotations

import io
from typing import IO, Any

from worker_daemon.edge.http1 import request_body, request_head

_SMALL = 64 << 10  # bytes of a body that are read before the login is verified


class Refused:
    """Why a request is refused, with the attributes of waitress's own errors."""

    def __init__(self, code: int, body: str) -> None:
        self.code, self.body = code, body


class RequestParser:
    """One request while it is being received.

    waitress uses all public names but `withheld` and `resume`. A request with a body that may be
    long is `withheld`: it counts as complete without its body, until its login is verified and
    `resume` is called.
    """

    empty = completed = headers_finished = expect_continue = False
    error: Any = None
    command = path = query = request_uri = ""
    version = "1.0"
    body_bytes_received = 0
    withheld = False

    def __init__(self, adj: Any) -> None:
        self._max_head = adj.max_request_header_size
        self._max_body = adj.max_request_body_size
        self._slots = adj.stored_bodies
        self.url_scheme = adj.url_scheme
        self.headers: dict[str, str] = {}
        self._head = bytearray()  # the part of the head that has arrived
        self._skipped = 0  # bytes of empty lines before it
        self._length: int | None = 0  # of the body; None if it is chunked
        self._body: request_body.Counted | request_body.Chunked | None = None
        self._invites = False  # whether the client waits for 100 Continue
        self._ahead = b""  # the part of a withheld body that has arrived

    def received(self, data: bytes) -> int:
        """Parse bytes; return how many belong to this request."""
        if self.completed:
            return 0
        try:
            return self._take_body(data) if self.headers_finished else self._take_head(data)
        except request_head.Malformed as error:
            self._refuse(error.status, str(error))
        except OSError as error:
            self._refuse(503, f"the body cannot be stored: {error.strerror or error}")
        return len(data)

    def get_body_stream(self) -> IO[bytes]:
        """Return the body."""
        if self._body is None:
            return io.BytesIO()
        self._body.file.seek(0)
        return self._body.file

    def close(self) -> None:
        """Drop the body."""
        if self._body is not None:
            self._body.file.close()

    def resume(self) -> bytes:
        """Begin to receive the body. Return its bytes that have arrived, to be parsed next."""
        self.withheld = self.completed = False
        self.expect_continue = self._invites
        self._begin_body()
        ahead, self._ahead = self._ahead, b""
        return ahead

    def _take_head(self, data: bytes) -> int:
        before = len(self._head)
        self._head += data
        if not before:  # empty lines before a request are skipped (RFC 9112, 2.2)
            came = len(self._head)
            self._head = self._head.lstrip(b"\r\n")
            self._skipped += came - len(self._head)
        end = self._head.find(b"\r\n\r\n", max(0, before - 3))
        length = end + 4 if end >= 0 else len(self._head)
        if length + self._skipped >= self._max_head:
            most = self._max_head - 1
            raise request_head.Malformed(
                f"the head of the request is longer than {most} bytes", 431
            )
        if end < 0:
            return len(data)
        consumed = len(data) - (len(self._head) - length)
        head = request_head.read_head(bytes(self._head[:end]))
        self._head.clear()
        self._fill(head)
        if self._length is None or self._length > _SMALL:
            self._withhold(data[consumed:])
            return len(data)
        if self._length:
            self._begin_body()
        else:
            self.completed = True
        return consumed

    def _fill(self, head: request_head.Head) -> None:
        self.headers_finished = True
        self.command, self.request_uri, self.path, self.query = head[:4]
        self.version, self.headers, self._length = head.version, head.fields, head.length
        if self._length is not None and self._length >= self._max_body:
            raise self._too_long()
        expects = self.headers.get("EXPECT", "").lower() == "100-continue"
        self.expect_continue = expects and self.version == "1.1" and self._length != 0

    def _begin_body(self) -> None:
        if self._length is None:
            self._body = request_body.Chunked(self._slots)
        else:
            self._body = request_body.Counted(self._length, self._slots)

    def _withhold(self, ahead: bytes) -> None:
        self.withheld = self.completed = True
        self._invites, self.expect_continue = self.expect_continue, False
        self._ahead = ahead

    def _take_body(self, data: bytes) -> int:
        body = self._body
        assert body is not None  # else the request is complete
        taken = body.take(data)
        self.body_bytes_received += taken
        if self.body_bytes_received >= self._max_body:
            raise self._too_long()
        if body.complete:
            self.completed = True
            if isinstance(body, request_body.Chunked):
                self.headers["CONTENT_LENGTH"] = str(body.file.tell())
        return taken

    def _too_long(self) -> request_head.Malformed:
        return request_head.Malformed(f"the body is longer than {self._max_body - 1} bytes", 413)

    def _refuse(self, status: int, why: str) -> None:
        self.close()
        self.error = Refused(status, why)
        self.expect_continue = False  # no 100 Continue for a body that is refused already
        self.completed = self.headers_finished = True
