"""Answers below the application: how they are written, and the refusals made without it."""

from __future__ import annotations

import http
import logging
import uuid
from typing import Any

from waitress import task

from worker_daemon import problems, strict_json
from worker_daemon.api import long_requests
from worker_daemon.edge.http1 import request_reader

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

_CODES = {  # of the problem documents, by the status that the reader of requests decides
    400: "malformed_request",
    413: "body_too_large",
    414: "target_too_long",
    431: "header_too_large",
    501: "not_implemented",
    503: "store_unavailable",
}


class Answer(task.WSGITask):
    """The application's answer; while the daemon drains, the last one of its connection."""

    channel: Any
    request: Any
    _stays = False

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment, with a way to say whose answer this is."""
        environ: dict[str, Any] = super().get_environment()
        environ[long_requests.LOGGED_IN] = self.channel.logged_in
        return environ

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
        if not isinstance(error, request_reader.Refused):  # waitress's own, after an exception
            return problems.Problem(
                "internal_error", "the server failed to answer; its log says why"
            )
        prefix = "the request is not valid HTTP: " if error.code == 400 else ""
        return problems.Problem(_CODES[error.code], prefix + error.body)
