"""GET /events: server-sent events of the caller's jobs, as they change."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Annotated

import falcon
import worker_core

from worker_daemon import access, fields, followers, problems, strict_json
from worker_daemon.resources import base

_SAY_SOMETHING = 15.0  # seconds of silence after which proxies might hang up
_REMEMBERED = 1000  # events, of about 400 bytes each
_RETRY = b"retry: 2000\n\n"  # milliseconds until a browser connects again


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventsHeaders:
    """Where to go on."""

    last_event_id: Annotated[
        int | None,
        fields.Field(
            fields.Whole(0, (1 << 53) - 1), "The id of the last event seen: goes on after it."
        ),
    ] = None


class Events(base.Resource):
    """What happens to jobs: an event `status` for each change, `end` for the last one."""

    def __init__(self, room: base.Room) -> None:
        super().__init__(room)
        self._encoded = _Encoded()

    @base.operation(
        "Tell of the caller's jobs as they change (server-sent events)",
        {200: ("Events",)},
        query=access.OwnerQuery,
        problems=("too_many_followers", "draining"),
        headers=EventsHeaders,
    )
    def on_get(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        _query: access.OwnerQuery,
        headers: EventsHeaders,
    ) -> None:
        """Begin with what came after Last-Event-ID, or with the next change; never end."""
        owner = self.room.access.owner(req)
        if owner == access.EVERYBODY:
            fault = worker_core.FieldError("owner", "events are told of one user at a time")
            raise problems.invalid([fault])
        resp.content_type = "text/event-stream"
        if req.method != "HEAD":
            place = self.room.followers.enter(req.context.user)
            resp.stream = followers.Stream(self._told(req, owner, headers.last_event_id), place)

    on_head = on_get

    def _told(
        self, req: falcon.Request, owner: str, after: int | None
    ) -> Generator[bytes, None, None]:
        silent = 0.0
        changes = self.engine.changes(owner, after, heartbeat=followers.HEARTBEAT)
        yield _RETRY
        for jobs in changes:
            if self.room.followers.over(req):
                return
            followers.check_login(req)
            silent = 0.0 if jobs else silent + followers.HEARTBEAT
            if jobs:
                yield b"".join(map(self._encoded.event, jobs))
            elif silent >= _SAY_SOMETHING:
                silent = 0.0
                yield b":\n\n"


class _Encoded:
    """Events as bytes. Each is made once, however many streams it goes to."""

    def __init__(self) -> None:
        self._by_version: dict[int, bytes] = {}

    def event(self, job: worker_core.Job) -> bytes:
        """Return the event of a change."""
        known = self._by_version.get(job.version)
        if known is None:
            if len(self._by_version) >= _REMEMBERED:
                self._by_version.clear()
            known = self._by_version[job.version] = _event(job)
        return known


def _event(job: worker_core.Job) -> bytes:
    name = b"end" if job.state.final else b"status"
    # No line of JSON text contains a line break: they are escaped.
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        job.version,
        name,
        strict_json.encode(job.status_view()),
    )
