"""GET /events: server-sent events about the changes of a user's jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Annotated

import falcon
import worker_core

from worker_daemon import problems, strict_json
from worker_daemon.api import access, long_requests, params, resource

_KEEP_ALIVE = 15.0  # seconds; after more silence, proxies may close the connection
_REMEMBERED = 1000  # encoded events, of about 400 bytes each
_RETRY = b"retry: 2000\n\n"  # milliseconds until a browser connects again


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventsQuery(access.OwnerQuery):
    """Whose events to send, and in which form."""

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
    """Where to continue."""

    last_event_id: Annotated[
        int | None,
        params.Field(
            params.Whole(0, (1 << 53) - 1),
            "The id of the last event seen; the stream begins after it.",
        ),
    ] = None


class Events(resource.Resource):
    """Events about jobs: `status` for each change, `end` for the last one."""

    def __init__(self, services: resource.Services) -> None:
        super().__init__(services)
        self._named, self._unnamed = _Encoded(named=True), _Encoded(named=False)

    @resource.operation(
        "Send the changes of the caller's jobs (server-sent events)",
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

        The data is the same as in GET /jobs/{job_id}/status. The stream begins after the event that
        `Last-Event-Id` names, or with the next change, and does not end by itself. With
        `unnamed=true` events have no name, so that `onmessage` of an EventSource receives them.
        """
        owner = self.services.access.owner(req)
        if owner == access.EVERYBODY:
            fault = worker_core.FieldError("owner", "a stream has the events of one user only")
            raise problems.invalid([fault])
        resp.content_type = "text/event-stream"
        long_requests.pass_on(resp)
        if req.method != "HEAD":
            place = self.services.long_requests.enter(req.context.user)
            encoded = self._unnamed if query.unnamed else self._named
            events = self._events(req, owner, headers.last_event_id, encoded)
            resp.stream = long_requests.Stream(events, place)

    on_head = on_get

    def _events(
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
            elif silent >= _KEEP_ALIVE:
                silent = 0.0
                yield b":\n\n"


class _Encoded:
    """Encodes events, each once for all streams."""

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
    # JSON escapes line breaks, so that the data is always one line.
    return b"id: %d\n%sdata: %s\n\n" % (
        job.version,
        name,
        strict_json.encode(job.status_view()),
    )
