"""Request bodies: read JSON, and convert it to the type that the resource declares."""

from __future__ import annotations

from typing import Any, TypeVar

import falcon
import worker_core

from worker_daemon import problems, strict_json
from worker_daemon.api import params

T = TypeVar("T")

_SEND_JSON = "send JSON, with the header Content-Type: application/json"


LONG = 64 << 10
"""Bytes. A longer body needs a share of the budget, and only a job may have one."""


def size(req: falcon.Request, of: type, longest: int) -> int:
    """Return the declared length of a body, or the maximum where it is not declared."""
    longest = _longest(of, longest)
    return longest if req.content_length is None else min(req.content_length, longest)


def read(req: falcon.Request, of: type[T], longest: int, *, required: bool) -> T:
    """Read the body as an `of`; a missing one that is not `required` as an empty object."""
    data = _bytes(req, _longest(of, longest))
    if not data and not required:
        return params.from_object(of, {})
    _check_media_type(req)
    _check_encoding(req)
    try:
        value = strict_json.decode(data)
    except strict_json.TooManyValuesError as error:
        raise problems.Problem("body_too_large", f"the body is too large: {error}") from None
    except ValueError as error:
        what = str(error) if data else f"it is empty; {_SEND_JSON}"
        raise problems.Problem("malformed_request", f"the body cannot be read: {what}") from None
    return _made(of, value)


def _longest(of: type, longest: int) -> int:
    return longest if of is worker_core.JobSpec else min(longest, LONG)


def _made(of: type[T], value: Any) -> T:
    if of is worker_core.JobSpec:
        wrapped = isinstance(value, dict) and set(value) == {"job"}
        return worker_core.JobSpec.from_dict(value["job"] if wrapped else value)  # type: ignore[return-value]
    if not isinstance(value, dict):
        raise problems.invalid([worker_core.FieldError("", "the body must be a JSON object")])
    return params.from_object(of, value)


def _bytes(req: falcon.Request, longest: int) -> bytes:
    declared = req.content_length
    if declared is None or declared <= longest:
        data: bytes = req.bounded_stream.read(longest + 1)
        if len(data) <= longest:
            return data
    raise problems.Problem("body_too_large", f"the body is longer than {longest} bytes")


def _check_encoding(req: falcon.Request) -> None:
    encoding = req.get_header("Content-Encoding", default="identity")
    if encoding.strip().lower() not in ("", "identity"):
        detail = f"{_SEND_JSON}, and not compressed by {encoding.strip()}"
        raise problems.Problem("unsupported_media_type", detail)


def _check_media_type(req: falcon.Request) -> None:
    media, _, parameters = (req.content_type or "").partition(";")
    charset = parameters.replace(" ", "").replace('"', "").lower()
    # Many programs send no type, and only JSON is accepted anyway. But the page of another site can
    # make a browser send a body without a type and with the user's login (CSRF). Browsers then send
    # Origin, so that with it a type is required.
    unnamed = not media.strip() and req.get_header("Origin") is None
    if not unnamed and media.strip().lower() != falcon.MEDIA_JSON:
        problem = f"not {media.strip()}" if media.strip() else "which is missing"
        raise problems.Problem("unsupported_media_type", f"{_SEND_JSON}, {problem}")
    if charset not in ("", "charset=utf-8"):
        raise problems.Problem("unsupported_media_type", f"{_SEND_JSON}, in UTF-8")
