"""Translate the server's refusals (RFC 9457 problem documents) into errors."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from worker_cli import errors
from worker_cli.net import translate
from worker_cli.ui import humanize

if TYPE_CHECKING:
    import requests

_NOT_FOUND = "job_not_found"
_KINDS = {
    _NOT_FOUND: errors.JobNotFound,
    "job_not_running": errors.JobNotRunning,
    "job_not_finished": errors.JobNotFinished,
}

_NO_LOGIN = (401, 429)  # wrong, and too often wrong
_MOST_BYTES = 1 << 20


def of(response: requests.Response, peer: translate.Peer) -> errors.ClientError | None:
    """Return the error that a response stands for, None for one that is an answer.

    Raises what requests raises when the connection breaks while the problem is read.
    """
    if not _length_is_told(response):
        response.close()
        return translate.cut_short(peer)
    if 200 <= response.status_code < 300:
        return None
    with response:
        document = _document(response)
    if document is None:
        return _foreign(response, peer)
    if response.status_code in _NO_LOGIN:
        return errors.NotLoggedIn(f"{peer.server} did not accept the login: {_message(document)}")
    code = str(document.get("code", ""))
    return _KINDS.get(code, errors.Refused)(
        (code == _NOT_FOUND and _not_found(response.request.path_url)) or _message(document),
        status=response.status_code,
        code=code,
        errors=_wrong_fields(document),
        request_id=document.get("request_id") or response.headers.get("X-Request-Id"),
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _length_is_told(response: requests.Response) -> bool:
    """Whether the end of the body can be told from a lost connection.

    http.client takes the end of a connection within the headers for the end of the headers, so an
    answer of unknown length may be the first half of one.
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
        if len(content) > _MOST_BYTES:
            return None
    with contextlib.suppress(ValueError):
        document = json.loads(content)
        if isinstance(document, dict) and ("code" in document or "detail" in document):
            return document
    return None


def _message(document: Mapping[str, Any]) -> str:
    message = str(document.get("detail") or document.get("title") or "the server gave no reason")
    message = humanize.clean(
        message
    )  # it may quote what a user has chosen, as the reason of a kill
    told = [
        ": ".join(str(part) for part in (each.get("field"), each.get("message")) if part)
        for each in _wrong_fields(document)
    ]
    missing = [each for each in told if each not in message]
    return message.rstrip(".") + ": " + "; ".join(missing) if missing else message


def _wrong_fields(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = document.get("errors")
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _not_found(path: str) -> str | None:
    """Return a sentence that names the job; the server's own points at the HTTP API."""
    found = re.search("/jobs/([^/?]+)", path)
    return (
        f"you have no job {unquote(found[1])}: it is unknown, removed or not yours"
        if found
        else None
    )


def _foreign(response: requests.Response, peer: translate.Peer) -> errors.ClientError:
    """Return the error for a refusal that is no workerd's, or an older one's."""
    status = response.status_code
    if status == 401:
        return errors.NotLoggedIn(f"{peer.server} did not accept the login")
    told = f"HTTP {status} {response.reason or ''}".rstrip()
    location = response.headers.get("Location")
    if location and 300 <= status < 400:
        return translate.not_workerd(peer, f"a redirection to {location}")
    if status in (404, 405, 501):
        asked = f"{response.request.method} {response.request.path_url.partition('?')[0]}"
        return errors.Unreachable(
            f"{peer.server} does not know {asked} ({told}): it is no workerd, or one too old "
            "for this; `worker version` tells which"
        )
    if status in (502, 503, 504):  # a gateway whose server is being restarted
        return errors.Absent(f"{peer.server} cannot be reached: what stands before it says {told}")
    return translate.not_workerd(peer, told)


def _seconds(text: str | None) -> float | None:
    """Return a Retry-After in seconds; the form with a date is not used by workerd."""
    return float(text) if text and text.isascii() and text.isdigit() else None
