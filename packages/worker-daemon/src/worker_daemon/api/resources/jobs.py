"""GET /jobs, GET and DELETE /jobs/{job_id}: the records of jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import falcon
import worker_core

from worker_daemon import problems, strict_json
from worker_daemon.api import access, audit, params, resource
from worker_daemon.api.resources import update

_MOST = 500
_LONG = ("too_many_followers", "server_busy", "draining")  # problems of requests that may take long
_SEARCH_SECONDS = 5.0  # the longest search
_SEARCH_AT_ONCE = 0.1  # seconds; a longer search takes a place
_MOST_BYTES = 1 << 20  # of the specs on a page, in JSON


def _label(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _labels(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    labels = dict(pairs)
    if len(labels) != len(set(pairs)):
        message = "no job has two values of one label"
        raise problems.invalid([worker_core.FieldError("label", message)])
    return labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobsQuery(access.OwnerQuery):
    """Which jobs."""

    status: Annotated[
        tuple[worker_core.State, ...],
        params.Field(
            params.Word([each.value for each in worker_core.State], read=worker_core.State),
            "Only jobs in this state; may be given several times, for any of them.",
            many=True,
        ),
    ] = ()
    label: Annotated[
        tuple[tuple[str, str], ...],
        params.Field(
            params.Text(most=511, shape="^[^=]+=", raw=True, read=_label, hint="must be KEY=VALUE"),
            "Only jobs with this label, KEY=VALUE; may be given several times, for all of them. A"
            " byte that is not UTF-8 is percent-encoded as it is, as in %FF.",
            many=True,
        ),
    ] = ()
    name: Annotated[
        str | None,
        params.Field(
            params.Text(raw=True),
            "Only jobs of this name. A byte that is not UTF-8 is percent-encoded as it is, as in"
            " %FF.",
        ),
    ] = None
    id_prefix: Annotated[
        str | None, params.Field(params.Text(most=36), "Only jobs whose id begins so.")
    ] = None
    since: Annotated[
        float | params.Ago | None,
        params.Field(
            params.Moment(),
            "Only jobs created at this time or later; or in the last 90s, 12h, 7d.",
        ),
    ] = None
    ended_before: Annotated[
        float | params.Ago | None,
        params.Field(
            params.Moment(),
            "Only jobs that had ended at this time; or that ended at least 90s, 12h, 7d ago.",
        ),
    ] = None
    limit: Annotated[int, params.Field(params.Whole(1, _MOST), "The maximum number of jobs.")] = 50
    cursor: Annotated[
        str | None, params.Field(params.Text(), "The next_cursor of the page before.")
    ] = None


class Jobs(resource.Resource):
    """The caller's jobs."""

    @resource.operation(
        "List jobs, newest first", {200: ("Jobs",)}, query=JobsQuery, problems=_LONG
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, query: JobsQuery) -> None:
        """Answer with one page."""
        owner = self.services.access.owner(req)
        with contextlib.ExitStack() as place:
            page = self._page(owner, query, _Search(self.services, req, place).look)
        resource.answer_record(
            req,
            resp,
            self.services,
            page.jobs,
            lambda records: (
                b'{"jobs": [%s], "next_cursor": %s}\n'
                % (b", ".join(records), strict_json.encode(page.next_cursor))
            ),
        )

    on_head = on_get

    def _page(self, owner: str, query: JobsQuery, look: Callable[[], None]) -> worker_core.Page:
        return self.engine.list(
            owner=None if owner == access.EVERYBODY else owner,
            states=query.status,
            labels=_labels(query.label),
            name=query.name,
            id_prefix=query.id_prefix,
            since=self._stamp(query.since),
            ended_before=self._stamp(query.ended_before),
            limit=query.limit,
            cursor=query.cursor,
            max_bytes=_MOST_BYTES,
            whole=False,
            on_step=look,
        )

    def _stamp(self, when: float | params.Ago | None) -> float | None:
        return self.engine.ago(when.seconds) if isinstance(when, params.Ago) else when


class _Search:
    """A search for jobs that may take long.

    After a while it takes a place. It ends when its time is up or its client has left.
    """

    def __init__(
        self, services: resource.Services, req: falcon.Request, place: contextlib.ExitStack
    ) -> None:
        self._services = services
        self._req = req
        self._place = place
        self._begun = time.monotonic()
        self._placed = False

    def look(self) -> None:
        """Return if the search may go on; raises Problem otherwise."""
        taken = time.monotonic() - self._begun
        if self._services.searches.over(self._req):
            raise problems.draining()
        if taken > _SEARCH_SECONDS:
            cure = "give fewer filters, or since and ended_before"
            message = f"the search took more than {_SEARCH_SECONDS:g} s; {cure}"
            raise problems.invalid([worker_core.FieldError("", message)])
        if taken > _SEARCH_AT_ONCE and not self._placed:
            self._placed = True
            self._place.enter_context(self._services.searches.enter(self._req.context.user))


class Job(resource.Resource):
    """The whole record of a job."""

    @resource.operation("Return the whole record of a job", {200: ("Job",)}, problems=_LONG)
    def on_get(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        job: worker_core.Job,
    ) -> None:
        """Answer with the record, spec included."""

        def only(records: list[bytes]) -> bytes:
            if not records:
                raise problems.job_not_found(job.id)
            return records[0] + b"\n"

        resource.answer_record(req, resp, self.services, [job], only)

    on_head = on_get

    @resource.operation(
        "Change what a waiting job waits for",
        {200: ("Job",)},
        body=update.UpdateBody,
        body_required=True,
        problems=("job_not_waiting", *_LONG),
    )
    def on_patch(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        job: worker_core.Job,
        body: update.UpdateBody,
    ) -> None:
        """Answer with the record. The job may have started because of the change."""
        changes = body.changes()
        if changes:
            job = self.engine.update(job.id, **changes)
            audit.update(req, job, changes)
        resource.answer_record(req, resp, self.services, [job], lambda records: records[0] + b"\n")

    @resource.operation(
        "Remove the record and the output of a finished job",
        {204: ()},
        problems=("job_not_finished", "job_needed"),
    )
    def on_delete(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        job: worker_core.Job,
    ) -> None:
        """Remove a job that has ended. A job that runs or waits is not touched (409)."""
        self.engine.remove(job.id)
        audit.remove(req, job)
        resp.status = 204
