"""What the daemon answers by itself, before a request reaches the application."""

from __future__ import annotations

import http
import logging
import re
import uuid
from typing import Any

from waitress import parser, receiver, task, utilities

from worker_daemon import problems, strict_json

_log = logging.getLogger("worker_daemon.access")

_SMALL = 64 << 10  # bytes of a body that are taken from anybody
_BETWEEN = 4096  # bytes between two chunks of a body, or behind the last one
# Octets of a head (RFC 9110, 5.5, and RFC 9112, 2.2).
_LEGAL = b"\t\r\n" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))

_PLAIN = b"This port speaks HTTPS: the address must begin with https://\n"
PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"%s" % (len(_PLAIN), _PLAIN)
)

_CODINGS = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")

# status of waitress: (code of ours, detail)
_REFUSALS = {
    400: ("malformed_request", "the request is not valid HTTP: {}"),
    413: ("body_too_large", "the body is longer than {} bytes"),
    431: ("header_too_large", "the head of the request is longer than {} bytes"),
    500: ("internal_error", "the server failed to answer; its log says why"),
    501: ("not_implemented", "of the transfer codings only chunked is known"),
}


class Parser(parser.HTTPRequestParser):
    """waitress's parser, stricter where a proxy in front might understand something else.

    A request with a body that may be long is `withheld`: it counts as complete without its body
    until somebody has looked at its head, and calls `resume`.
    """

    command: Any = ""  # until the head is read
    path: Any = ""
    withheld = False
    _invites = False  # whether the client waits for an invitation to send the body
    _ahead = b""  # what has come of the body meanwhile

    def received(self, data: bytes) -> int:
        """Take bytes; return how many were of this request."""
        had_head = self.headers_finished
        consumed = int(super().received(data))
        if self.error is not None:
            self.expect_continue = False  # no invitation to send a body that is refused already
        elif self.headers_finished and not had_head and self._may_be_long():
            self.withheld = self.completed = True
            self._invites, self.expect_continue = self.expect_continue, False
            self._ahead = data[consumed:]
            return len(data)
        elif isinstance(self.body_rcv, receiver.ChunkedReceiver):
            self._bound(self.body_rcv)
        return consumed

    def resume(self) -> bytes:
        """Go on to the body; return what is there of it, which is still to be received."""
        self.withheld = self.completed = False
        self.expect_continue = self._invites
        ahead, self._ahead = self._ahead, b""
        return ahead

    def _may_be_long(self) -> bool:
        return bool(self.chunked or self.content_length > _SMALL)

    def _bound(self, chunks: Any) -> None:
        """Refuse long lines between chunks: waitress joins all that has come of one each time."""
        if len(chunks.control_line) > _BETWEEN or len(chunks.trailer) > _BETWEEN:
            self.error = utilities.BadRequest(f"More than {_BETWEEN} bytes between two chunks")
            self.completed = True

    def parse_header(self, head: bytes) -> None:
        """Read the head; what RFC 9112 lets a server refuse is refused (3.2 and 6.1).

        A body in chunks is one only if nobody on the way can take it for something else.
        """
        if head.translate(None, _LEGAL):
            # waitress's expression for a header takes time by the square of the blanks before it.
            raise parser.ParsingError("The head has control characters")
        try:
            super().parse_header(head)
        except ValueError as error:  # of urllib, or a length of thousands of digits
            raise parser.ParsingError(f"The head cannot be read: {error}") from None
        if self.version not in ("1.0", "1.1"):
            raise parser.ParsingError("Only HTTP/1.1 and HTTP/1.0 are spoken here")
        codings = [value.strip().lower() for value in _CODINGS.findall(head)]
        if codings and "CONTENT_LENGTH" in self.headers:
            raise parser.ParsingError("Both Transfer-Encoding and Content-Length are given")
        if codings and (codings != [b"chunked"] or not self.chunked):
            raise parser.ParsingError("Transfer-Encoding is chunked, once, and of HTTP/1.1")
        host = self.headers.get("HOST")
        if host is None and self.version == "1.1":
            raise parser.ParsingError("The Host header is missing")
        if host is not None and "," in host:
            raise parser.ParsingError("There is more than one Host header")


class Answer(task.WSGITask):
    """The application's answer; while the daemon drains, the last one of its connection."""

    channel: Any
    request: Any
    _stays = False

    def write(self, data: Any) -> None:
        """Write; of an answer that is whole the head goes along, in one TLS record."""
        if self.wrote_header or not data or len(data) != self.content_length or not self.has_body:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(head + data)

    def build_response_header(self) -> bytes:
        """Return the head of the answer."""
        if self.channel.server.draining.is_set():
            self.set_close_on_finish()
        # waitress closes after every answer without a length; one without a body needs none.
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        self._stays = not self.has_body and self.version == "1.1" and not asked
        head: bytes = super().build_response_header()
        self._stays = False
        return head

    def set_close_on_finish(self) -> None:
        """Let the connection end after this answer."""
        if not self._stays:
            super().set_close_on_finish()


class Refusal(task.ErrorTask):
    """A problem document for what is no request, or not one that the application may see."""

    channel: Any
    request: Any
    response_headers: Any

    def execute(self) -> None:
        """Write the answer, and let the connection end."""
        problem = self._problem(self.request.error)
        request_id = str(uuid.uuid4())
        known = {}
        if problem is self.request.error:  # else its head may not even be read
            known = {"method": self.request.command, "path": self.request.path}
        _log.info(
            "refused",
            extra={
                "request_id": request_id,
                "address": self.channel.addr[0],
                **known,
                "status": problem.kind.status,
                "code": problem.code,
            },
        )
        body = strict_json.encode(problem.document(request_id)) + b"\n"
        status = http.HTTPStatus(problem.kind.status)
        self.status = f"{status.value} {status.phrase}"
        self.response_headers += [
            ("Content-Type", "application/problem+json"),
            ("X-Request-Id", request_id),
            *problems.ALWAYS.items(),
            *problem.headers.items(),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)

    def _problem(self, error: Any) -> problems.Problem:
        if isinstance(error, problems.Problem):
            return error
        limits = self.channel.server.settings
        code, detail = _REFUSALS[error.code]
        argument = {413: limits.max_body, 431: limits.max_header}.get(
            error.code, error.body.rstrip(".").lower()
        )
        return problems.Problem(code, detail.format(argument))
