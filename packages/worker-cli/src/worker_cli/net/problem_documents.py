"""Translate answers that are refusals (RFC 9457 problem documents) into errors.

Exceptions that are raised when there is no answer are translated in `request_errors`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from worker_cli import errors
from worker_cli.net import peers
from worker_cli.ui import humanize

if TYPE_CHECKING:
    import requests

_NOT_FOUND = "job_not_found"
_ERRORS_BY_CODE = {
    _NOT_FOUND: errors.JobNotFound,
    "job_not_running": errors.JobNotRunning,
    "job_not_finished": errors.JobNotFinished,
}

_WRONG_LOGIN, _LOGIN_THROTTLED = 401, 429
_MAX_BYTES = 1 << 20


def error_of(response: requests.Response, peer: peers.Peer) -> errors.ClientError | None:
    """Return the error that a response stands for, None for a success.

    Raises what requests raises when the connection breaks while the problem document is read.
    """
    if not _has_known_length(response):
        response.close()
        return peers.connection_lost(peer)
    if 200 <= response.status_code < 300:
        return None
    with response:
        document = _document(response)
    if document is None:
        return _without_document(response, peer)
    if response.status_code in (_WRONG_LOGIN, _LOGIN_THROTTLED):
        return _login_refused(response.status_code, peer, _message(document))
    code = str(document.get("code", ""))
    message = code == _NOT_FOUND and _not_found(response.request.path_url)
    return _ERRORS_BY_CODE.get(code, errors.RequestRefused)(
        message or _message(document),
        status=response.status_code,
        code=code,
        errors=_wrong_fields(document),
        request_id=document.get("request_id") or response.headers.get("X-Request-Id"),
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _has_known_length(response: requests.Response) -> bool:
    """Return whether the end of the body can be distinguished from a lost connection.

    http.client treats a connection that ends within the headers as the end of the headers, so a
    response of unknown length may be the first half of one.
    """
    return (
        response.status_code == 204
        or "Content-Length" in response.headers
        or "chunked" in response.headers.get("Transfer-Encoding", "")
    )


def _document(response: requests.Response) -> dict[str, Any] | None:
    if "json" not in response.headers.get("Content-Type", ""):
        return None
    content = b""
    for chunk in response.iter_content(1 << 14):
        content += chunk
        if len(content) > _MAX_BYTES:
            return None
    with contextlib.suppress(ValueError):
        document = json.loads(content)
        if isinstance(document, dict) and ("code" in document or "detail" in document):
            return document
    return None


def _message(document: Mapping[str, Any]) -> str:
    message = str(document.get("detail") or document.get("title") or "the server gave no reason")
    # The message may quote what a user chose, such as the reason of a kill.
    message = humanize.clean(message)
    field_messages = [
        ": ".join(str(part) for part in (field.get("field"), field.get("message")) if part)
        for field in _wrong_fields(document)
    ]
    missing = [text for text in field_messages if text not in message]
    return message.rstrip(".") + ": " + "; ".join(missing) if missing else message


def _wrong_fields(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    fields = document.get("errors")
    if not isinstance(fields, list):
        return []
    return [field for field in fields if isinstance(field, Mapping)]


def _login_refused(status: int, peer: peers.Peer, reason: str = "") -> errors.NotLoggedIn:
    """Return the error for a wrong user or password, with what to do about it."""
    why = f": {reason.rstrip('.')}" if reason else ""
    cure = "run `worker login` again, or check WORKER_USER and WORKER_PASSWORD if they are set"
    if status == _LOGIN_THROTTLED:
        return errors.NotLoggedIn(f"{peer.server} did not accept the login{why}")
    return errors.NotLoggedIn(f"{peer.server} did not accept the login{why}; {cure}")


def _not_found(path: str) -> str | None:
    """Return a message that names the job; the server's own message refers to the HTTP API."""
    match = re.search("/jobs/([^/?]+)", path)
    if not match:
        return None
    return f"you have no job {unquote(match[1])}: it is unknown, removed or not yours"


def _without_document(response: requests.Response, peer: peers.Peer) -> errors.ClientError:
    """Return the error for a refusal without a problem document: not from a current workerd."""
    status = response.status_code
    if status == _WRONG_LOGIN:
        return _login_refused(status, peer)
    status_line = f"HTTP {status} {response.reason or ''}".rstrip()
    location = response.headers.get("Location")
    if location and 300 <= status < 400:
        return peers.not_workerd(peer, f"a redirect to {location}")
    if status in (404, 405, 501):
        request = f"{response.request.method} {response.request.path_url.partition('?')[0]}"
        return errors.Unreachable(
            f"{peer.server} does not know {request} ({status_line}): it is not a workerd, or one "
            "that is too old for this; see `worker version`"
        )
    if status in (502, 503, 504):  # a gateway whose server is being restarted
        return errors.ServerUnavailable(
            f"cannot reach {peer.server}: the proxy in front of it returned {status_line}"
        )
    return peers.not_workerd(peer, status_line)


def _seconds(text: str | None) -> float | None:
    """Return a Retry-After in seconds; the form with a date is not used by workerd."""
    return float(text) if text and text.isascii() and text.isdigit() else None
