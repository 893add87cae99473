"""Problem documents (RFC 9457): the one table that maps every error to a code and a status.

Programs may rely on `code`. The sentence in `detail` is for people, and may change.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import falcon
import worker_core
from worker_core.model import errors as core_errors

from worker_daemon import strict_json

_log = logging.getLogger(__name__)

CHALLENGE = 'Basic realm="worker", charset="UTF-8"'


class Kind(NamedTuple):
    """The status and the title of a code."""

    status: int
    title: str
    retry_after: int | None = None


KINDS: Mapping[str, Kind] = {
    "malformed_request": Kind(400, "Malformed request"),
    "unauthorized": Kind(401, "Not logged in"),
    "not_found": Kind(404, "Not found"),
    "job_not_found": Kind(404, "Job not found"),
    "method_not_allowed": Kind(405, "Method not allowed"),
    "job_not_running": Kind(409, "Job not running"),
    "job_not_waiting": Kind(409, "Job not waiting"),
    "job_needed": Kind(409, "Job needed"),
    "job_not_finished": Kind(409, "Job not finished"),
    "stream_not_separate": Kind(409, "Stream not separate"),
    "body_too_large": Kind(413, "Body too large"),
    "target_too_long": Kind(414, "Target too long"),
    "unsupported_media_type": Kind(415, "Unsupported media type"),
    "range_not_satisfiable": Kind(416, "Range not satisfiable"),
    "invalid_job": Kind(422, "Invalid job"),
    "invalid_request": Kind(422, "Invalid request"),
    "idempotency_key_reused": Kind(422, "Idempotency key reused"),
    "too_many_logins": Kind(429, "Too many logins"),
    "header_too_large": Kind(431, "Header too large"),
    "internal_error": Kind(500, "Internal error"),
    "not_implemented": Kind(501, "Not implemented"),
    "queue_full": Kind(503, "Queue full", retry_after=10),
    "server_busy": Kind(503, "Server busy", retry_after=5),
    "too_many_followers": Kind(503, "Too many followers", retry_after=5),
    "too_many_downloads": Kind(503, "Too many downloads", retry_after=5),
    "users_unavailable": Kind(503, "Users unavailable", retry_after=5),
    "store_unavailable": Kind(503, "Store unavailable", retry_after=5),
    "supervisor_unavailable": Kind(503, "Supervisor unavailable", retry_after=5),
    "not_ready": Kind(503, "Not ready", retry_after=5),
    "draining": Kind(503, "Shutting down", retry_after=5),
}

_OF_ENGINE: Mapping[type[worker_core.WorkerError], str] = {
    worker_core.InvalidRequest: "invalid_request",
    worker_core.JobNotRunning: "job_not_running",
    worker_core.JobNotWaiting: "job_not_waiting",
    worker_core.JobNeeded: "job_needed",
    worker_core.JobNotFinished: "job_not_finished",
    worker_core.IdempotencyKeyReused: "idempotency_key_reused",
    worker_core.QueueFull: "queue_full",
    worker_core.StoreUnavailable: "store_unavailable",
    worker_core.ExecutorUnavailable: "supervisor_unavailable",
    worker_core.StreamNotSeparate: "stream_not_separate",
    worker_core.EngineClosed: "draining",
}


ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Headers of every answer, also of those that the edge makes."""


class Problem(Exception):
    """A refused request. `code` is one of KINDS; `errors` names the fields that are wrong."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Iterable[worker_core.FieldError] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.code, self.kind, self.detail = code, KINDS[code], detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        wait = self.kind.retry_after if retry_after is None else retry_after
        if wait is not None:
            self.headers["Retry-After"] = str(math.ceil(wait))
        super().__init__(detail)

    def document(self, request_id: str) -> dict[str, Any]:
        """Return the document, ready for JSON."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = [
                dataclasses.asdict(each) for each in self.errors[: core_errors.MOST_FAULTS]
            ]
        return document


def broken_query() -> Problem:
    """Return the problem for a query that cannot be read."""
    return Problem(
        "malformed_request", "the query is not percent-encoded UTF-8 of at most 200 parameters"
    )


def invalid(errors: Iterable[worker_core.FieldError], code: str = "invalid_request") -> Problem:
    """Return the problem for fields with invalid values."""
    found = tuple(errors)
    first = ": ".join(filter(None, (found[0].field, found[0].message)))
    more = f" (and {len(found) - 1} more, see errors)" if len(found) > 1 else ""
    if len(found) >= core_errors.MOST_FAULTS:
        more = f" (and {len(found) - 1} more at least, see errors)"
    return Problem(code, f"{first}{more}", errors=found)


def of(error: Exception) -> Problem:
    """Return the problem for an error; for an unexpected one, internal_error."""
    match error:
        case Problem():
            return error
        case worker_core.InvalidSpec():
            return invalid(error.errors, "invalid_job")
        case worker_core.JobNotFound():
            return job_not_found(error.job_id)
        case worker_core.WorkerError():
            code = next((c for kind, c in _OF_ENGINE.items() if isinstance(error, kind)), None)
            return Problem(code, str(error)) if code else _internal()
        case falcon.HTTPNotFound():
            return Problem("not_found", "no such resource; see GET /openapi.json")
        case falcon.HTTPError() if error.status_code == 400:
            return Problem("malformed_request", error.description or "the request is malformed")
    return _internal()


def job_not_found(job_id: str) -> Problem:
    """Return the problem for an id that is unknown, malformed, or of another user's job.

    All of them get the same answer, so that a client cannot tell them apart.
    """
    return Problem("job_not_found", f"you have no job with the id {job_id}; GET /jobs lists yours")


def unauthorized(detail: str) -> Problem:
    """Return the problem for a request without a valid login."""
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": CHALLENGE})


def draining() -> Problem:
    """Return the problem for a request that arrives while the daemon shuts down."""
    return Problem("draining", "the server is shutting down; jobs keep running; retry shortly")


def _internal() -> Problem:
    return Problem(
        "internal_error", "the server failed to answer; its log says why under this request_id"
    )


def answer(req: falcon.Request, resp: falcon.Response, error: Exception, _params: object) -> None:
    """Answer with the problem for `error`. falcon calls this for every exception."""
    problem = of(error)
    if problem.code == "internal_error":
        _log.error("internal error", exc_info=error, extra={"request_id": req.context.request_id})
    resp.status = problem.kind.status
    resp.content_type = "application/problem+json"
    resp.set_headers(problem.headers)
    resp.stream = None
    resp.data = strict_json.encode(problem.document(req.context.request_id)) + b"\n"
