"""GET /events: server-sent events of the caller's jobs, as they change."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Annotated

import falcon
import worker_core

from worker_daemon import problems, strict_json
from worker_daemon.api import access, long_requests, params, resource

_SAY_SOMETHING = 15.0  # seconds of silence after which proxies might hang up
_REMEMBERED = 1000  # events, of about 400 bytes each
_RETRY = b"retry: 2000\n\n"  # milliseconds until a browser connects again


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventsQuery(access.OwnerQuery):
    """Whose events, and in which form."""

    unnamed: Annotated[
        bool,
        params.Field(
            params.Flag(),
            "Send events without a name, so that the `onmessage` of an EventSource receives them;"
            " those with a name need a listener for it.",
        ),
    ] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventsHeaders:
    """Where to go on."""

    last_event_id: Annotated[
        int | None,
        params.Field(
            params.Whole(0, (1 << 53) - 1), "The id of the last event seen: goes on after it."
        ),
    ] = None


class Events(resource.Resource):
    """What happens to jobs: an event `status` for each change, `end` for the last one."""

    def __init__(self, services: resource.Services) -> None:
        super().__init__(services)
        self._named, self._unnamed = _Encoded(named=True), _Encoded(named=False)

    @resource.operation(
        "Tell of the caller's jobs as they change (server-sent events)",
        {200: ("Events",)},
        query=EventsQuery,
        problems=("too_many_followers", "draining"),
        headers=EventsHeaders,
    )
    def on_get(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        query: EventsQuery,
        headers: EventsHeaders,
    ) -> None:
        """Send an event for each change of a job: `end` for the last one, `status` for the others.

        The data is what GET /jobs/{job_id}/status answers. The stream begins with the changes after
        the event that `Last-Event-Id` names, or with the next change, and does not end by itself.
        With `unnamed=true` events have no name, and `onmessage` of an EventSource receives them.
        """
        owner = self.services.access.owner(req)
        if owner == access.EVERYBODY:
            fault = worker_core.FieldError("owner", "events are told of one user at a time")
            raise problems.invalid([fault])
        resp.content_type = "text/event-stream"
        long_requests.pass_on(resp)
        if req.method != "HEAD":
            place = self.services.long_requests.enter(req.context.user)
            encoded = self._unnamed if query.unnamed else self._named
            told = self._told(req, owner, headers.last_event_id, encoded)
            resp.stream = long_requests.Stream(told, place)

    on_head = on_get

    def _told(
        self, req: falcon.Request, owner: str, after: int | None, encoded: _Encoded
    ) -> Generator[bytes, None, None]:
        silent = 0.0
        changes = self.engine.changes(owner, after, heartbeat=long_requests.HEARTBEAT)
        yield _RETRY
        for jobs in changes:
            if self.services.long_requests.over(req):
                return
            long_requests.check_login(req)
            silent = 0.0 if jobs else silent + long_requests.HEARTBEAT
            if jobs:
                yield b"".join(map(encoded.event, jobs))
            elif silent >= _SAY_SOMETHING:
                silent = 0.0
                yield b":\n\n"


class _Encoded:
    """Events as bytes. Each is made once, however many streams it goes to."""

    def __init__(self, *, named: bool) -> None:
        self._is_named = named
        self._by_version: dict[int, bytes] = {}

    def event(self, job: worker_core.Job) -> bytes:
        """Return the event of a change."""
        known = self._by_version.get(job.version)
        if known is None:
            if len(self._by_version) >= _REMEMBERED:
                self._by_version.clear()
            known = self._by_version[job.version] = _event(job, named=self._is_named)
        return known


def _event(job: worker_core.Job, *, named: bool) -> bytes:
    name = b"event: %s\n" % (b"end" if job.state.final else b"status") if named else b""
    # No line of JSON text contains a line break: they are escaped.
    return b"id: %d\n%sdata: %s\n\n" % (
        job.version,
        name,
        strict_json.encode(job.status_view()),
    )
