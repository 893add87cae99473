"""What the daemon answers by itself, before a request reaches the application."""

from __future__ import annotations

import json
import uuid
from typing import Any

from waitress import parser, task

_PLAIN = b"This port speaks HTTPS: the address must begin with https://\n"
PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"%s" % (len(_PLAIN), _PLAIN)
)

# status: (code, title, detail)
_REFUSALS = {
    400: ("malformed_request", "Malformed request", "The request is not valid HTTP: {}."),
    413: ("body_too_large", "Body too large", "The body is longer than {} bytes."),
    431: ("header_too_large", "Header too large", "The header is longer than {} bytes."),
    500: ("internal_error", "Internal error", "The server failed to answer; its log says why."),
    501: ("not_implemented", "Not implemented", "Of the transfer codings only chunked is known."),
}


class Parser(parser.HTTPRequestParser):
    """waitress's parser, without the invitation to send a body that is already refused."""

    def received(self, data: bytes) -> int:
        """Take bytes; return how many were of this request."""
        consumed = int(super().received(data))
        if self.error is not None:
            self.expect_continue = False
        return consumed


class Answer(task.WSGITask):
    """The application's answer; while the daemon drains, the last one of its connection."""

    channel: Any

    def build_response_header(self) -> bytes:
        """Return the head of the answer."""
        if self.channel.server.draining.is_set():
            self.set_close_on_finish()
        head: bytes = super().build_response_header()
        return head


class Refusal(task.ErrorTask):
    """A problem document for what is no request, or not one that the application may see."""

    channel: Any
    request: Any
    response_headers: Any

    def execute(self) -> None:
        """Write the answer, and let the connection end."""
        error = self.request.error
        request_id = str(uuid.uuid4())
        body = _problem(error.code, self._argument(error), request_id)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [
            ("Content-Type", "application/problem+json"),
            ("X-Request-Id", request_id),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)

    def _argument(self, error: Any) -> object:
        limits = self.channel.server.settings
        return {413: limits.max_body, 431: limits.max_header}.get(
            error.code, error.body.rstrip(".").lower()
        )


def _problem(status: int, argument: object, request_id: str) -> bytes:
    code, title, detail = _REFUSALS[status]
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail.format(argument),
        "code": code,
        "request_id": request_id,
    }
    return json.dumps(document).encode()
