"""What all resources share: the services they use, and how a request becomes a method call.

`operation` makes a responder from a method. The responder checks whether the caller may see the
job, then reads the query, the headers and the body, in this order, and only then calls the method.
The OpenAPI document is made from the same declaration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from typing import Any

import falcon
import worker_core

from worker_daemon import strict_json
from worker_daemon.api import access, budget, long_requests, params, prometheus, request_body
from worker_daemon.settings import limits

_PIECE = 64 << 10  # bytes
_LONG = 256 << 10  # bytes; a longer answer takes a place
_LARGE = 4 << 20  # bytes; of longer answers only a few are in memory at a time
_LONG_RECORD = 8 << 20  # bytes: the assumed size of a long record before it is read


@dataclasses.dataclass(frozen=True)
class Services:
    """What all resources use."""

    engine: worker_core.Engine
    access: access.Access
    long_answers: long_requests.LongRequests
    """Limits the answers of more than `_LARGE` bytes, which are in memory until they are sent."""
    searches: long_requests.LongRequests
    """Limits the searches for jobs that take long."""
    downloads: long_requests.LongRequests
    """Limits the outputs that are being sent, each of which keeps a file open."""
    long_requests: long_requests.LongRequests
    draining: threading.Event
    metrics: Sequence[prometheus.Metric]
    max_body: int
    limits: limits.LimitPolicy
    output_limit: int
    run_as: Callable[[str], str | None]
    bodies: budget.Budget
    """Limits the bytes of all long bodies together, each until its request is answered."""
    records: budget.Budget
    """Limits the bytes of all long specs together while records are read."""

    def held(
        self, req: falcon.Request, body: type | None
    ) -> contextlib.AbstractContextManager[object]:
        """Hold the share of `bodies` that a request needs until it is answered."""
        if (
            body is None
            or (size := request_body.size(req, body, self.max_body)) < request_body.LONG
        ):
            return contextlib.nullcontext()
        user = req.context.user
        return self.bodies.lent(size, user, lambda: self.long_requests.enter(user))


class Resource:
    """A resource. Its methods that answer requests are made with `operation`."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.engine = services.engine


@dataclasses.dataclass(frozen=True)
class NoQuery:
    """The query of an operation without parameters."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """What a responder does, for the OpenAPI document."""

    summary: str
    answers: Mapping[int, tuple[str, ...]]  # status: the names of the schemas
    problems: tuple[str, ...]
    query: type | None
    body: type | None
    body_required: bool
    headers: type | None


def operation(
    summary: str,
    answers: Mapping[int, tuple[str, ...]],
    *,
    problems: tuple[str, ...] = (),
    query: type | None = None,
    body: type | None = None,
    body_required: bool = False,
    headers: type | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator for `method(self, req, resp, [job,] [query,] [headers,] [body])`."""
    described = Operation(summary, answers, problems, query, body, body_required, headers)

    def make(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def responder(
            self: Resource, req: falcon.Request, resp: falcon.Response, **path: str
        ) -> None:
            with self.services.held(req, body):
                respond(self, req, resp, **path)

        def respond(
            self: Resource, req: falcon.Request, resp: falcon.Response, **path: str
        ) -> None:
            values: list[Any] = []
            if "job_id" in path:
                req.context.job_id = path["job_id"]
                values.append(self.services.access.job(req, path["job_id"]))
            parsed: object = params.from_query(query or implied_query(path), access.query(req))
            if query is not None:
                values.append(parsed)
            if headers is not None:
                values.append(params.from_headers(headers, req.get_header))
            if body is not None:
                values.append(
                    request_body.read(req, body, self.services.max_body, required=body_required)
                )
            method(self, req, resp, *values)

        responder.operation = described  # type: ignore[attr-defined]
        return responder

    return make


def implied_query(path: Container[str]) -> type:
    """Return the query of a responder that declares none: whether its path has a job."""
    return access.OwnerQuery if "job_id" in path else NoQuery


def answer(resp: falcon.Response, value: object, status: int = 200) -> None:
    """Answer with JSON, and a newline for people at a terminal."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = strict_json.encode(value) + b"\n"


def answer_record(
    req: falcon.Request,
    resp: falcon.Response,
    services: Services,
    jobs: Sequence[worker_core.Job],
    value: Callable[[list[bytes]], bytes],
) -> None:
    """Answer with JSON made from the whole records of jobs, whose specs may be long."""
    if all(job.spec.whole for job in jobs):
        answer_long(req, resp, services, value([_record(job) for job in jobs]))
        return
    user = req.context.user
    with services.records.lent(_LONG_RECORD, user, lambda: services.long_requests.enter(user)):
        whole = []
        for job in jobs:
            with contextlib.suppress(worker_core.JobNotFound):  # removed meanwhile
                long = None if job.spec.whole else services.engine.spec_json(job)
                whole.append(_record(job, long))
        answer_long(req, resp, services, value(whole))


def _record(job: worker_core.Job, spec: str | None = None) -> bytes:
    """Return a record in JSON; `spec` is a long one as it is stored.

    Decoding and encoding a long spec again would hold up all other requests for tens of
    milliseconds.
    """
    view = job.record_view()
    if spec is None:
        return strict_json.encode(view)
    del view["spec"]
    return b'%s, "spec": %s}' % (strict_json.encode(view)[:-1], spec.encode("ascii"))


def answer_long(
    req: falcon.Request, resp: falcon.Response, services: Services, data: bytes
) -> None:
    """Answer with JSON. A long answer takes a place, because it is in memory until it is sent."""
    resp.content_type, resp.data = falcon.MEDIA_JSON, data
    if len(data) > _LONG and req.method != "HEAD":
        cap = services.long_answers if len(data) > _LARGE else services.long_requests
        place = cap.enter(req.context.user)
        resp.content_length, resp.data = len(data), None
        resp.stream = long_requests.Stream(long_requests.while_logged_in(req, _pieces(data)), place)


def _pieces(data: bytes) -> Generator[bytes, None, None]:
    for at in range(0, len(data), _PIECE):
        yield data[at : at + _PIECE]


def brief(job: worker_core.Job) -> dict[str, str]:
    """Return the id and the state of a job."""
    return {"id": job.id, "status": job.state.value}
