"""How responses are written, and the error responses that the server makes by itself."""

from __future__ import annotations

import http
import logging
import uuid
from typing import Any

from waitress import task

from worker_daemon import problems, strict_json
from worker_daemon.auth import login_hook
from worker_daemon.edge.http1 import request_parser

_log = logging.getLogger("worker_daemon.api.access")

_PLAIN = b"This port speaks HTTPS: the address must begin with https://\n"
PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"%s" % (len(_PLAIN), _PLAIN)
)
"""The response to a request without TLS."""

_CODES = {  # codes of the problem documents, by the status that the request parser chose
    400: "malformed_request",
    413: "body_too_large",
    414: "target_too_long",
    431: "header_too_large",
    501: "not_implemented",
    503: "store_unavailable",
}


class ResponseWriter(task.WSGITask):
    """Write the application's response. While the server drains, close the connection after it."""

    channel: Any
    request: Any
    _keeps_open = False

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment, with a function that takes note of a verified login."""
        environ: dict[str, Any] = super().get_environment()
        environ[login_hook.LOGGED_IN] = self.channel.logged_in
        return environ

    def write(self, data: Any) -> None:
        """Write a part of the body. A complete body goes into one TLS record with the head."""
        if self.wrote_header or not data or len(data) != self.content_length or not self.has_body:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(head + data)

    def build_response_header(self) -> bytes:
        """Return the head of the response."""
        if self.channel.server.draining.is_set():
            self.set_close_on_finish()
        # waitress closes after every response without Content-Length. A response without a body
        # needs no Content-Length, so its connection stays open.
        close = self.request.headers.get("CONNECTION", "").lower() == "close"
        self._keeps_open = not self.has_body and self.version == "1.1" and not close
        head: bytes = super().build_response_header()
        self._keeps_open = False
        return head

    def set_close_on_finish(self) -> None:
        """Close the connection after this response."""
        if not self._keeps_open:
            super().set_close_on_finish()


class ErrorWriter(task.ErrorTask):
    """Write a problem document for a request that the application must not see."""

    channel: Any
    request: Any
    response_headers: Any

    def execute(self) -> None:
        """Write the response, and close the connection after it."""
        problem = self._problem(self.request.error)
        request_id = str(uuid.uuid4())
        known = {}
        if problem is self.request.error:  # only then was the head of the request readable
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
        if not isinstance(error, request_parser.Refused):  # waitress caught an exception
            return problems.Problem(
                "internal_error", "the server failed to answer; its log has the reason"
            )
        prefix = "the request is not valid HTTP: " if error.code == 400 else ""
        return problems.Problem(_CODES[error.code], prefix + error.body)
