"""GET /jobs/{job_id}/out: the output of a job, as text in JSON or as bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Generator
from typing import Annotated

import falcon
import worker_core

from worker_daemon import problems
from worker_daemon.api import access, long_requests, output_stream, params, ranges, resource
from worker_daemon.settings import open_files

_log = logging.getLogger(__name__)

OCTETS = "application/octet-stream"
TEXT = "text/plain"
_AT_ONCE = 64 << 10  # bytes; a longer answer is made while it is sent, and takes a place
_BLOCKS_AT_ONCE = 16  # blocks, 1 MiB; a longer search for a tail takes a place
_FAR = 1 << 62


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputQuery(access.OwnerQuery):
    """Which part of the output, and whether to follow it."""

    stream: Annotated[
        str,
        params.Field(
            params.Word(["stdout", "stderr"]),
            "stderr exists only for a job with separate_stderr; otherwise it is part of stdout.",
        ),
    ] = "stdout"
    offset: Annotated[
        int | None, params.Field(params.Whole(0, _FAR), "Begin at this byte of the output.")
    ] = None
    tail: Annotated[
        int | None,
        params.Field(
            params.Whole(0, _FAR),
            "Begin with this number of last lines, but at most 256 MiB before the end.",
        ),
    ] = None
    follow: Annotated[
        bool,
        params.Field(
            params.Flag(),
            "Send the output so far and what the job still writes, until it has ended. Bytes only.",
        ),
    ] = False


class Output(resource.Resource):
    """A job's output."""

    @resource.operation(
        "Return the output of a job",
        {200: ("Output", "Bytes"), 206: ("Bytes",), 304: ()},
        query=OutputQuery,
        problems=(
            "range_not_satisfiable",
            "stream_not_separate",
            "too_many_followers",
            "too_many_downloads",
            "draining",
        ),
    )
    def on_get(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        job: worker_core.Job,
        query: OutputQuery,
    ) -> None:
        """Answer with the output so far, or follow it until the job has ended."""
        stream = output_stream.OutputStream.open(self.engine, job, query.stream)
        span = ranges.Span(self._begin(req, stream, query), stream.info.size)
        resp.content_type = _media_type(req, query)
        resp.set_header("Vary", "Accept")
        resp.set_header("X-Job-Status", job.state.value)
        resp.set_header("X-Output-Start", str(stream.info.start))
        resp.set_header("X-Output-Size", str(stream.info.size))
        if query.follow:
            self._follow(req, resp, stream, span.start)
        elif resp.content_type == falcon.MEDIA_JSON:
            self._send(req, resp, stream.document(span), span)
        else:
            self._send_range(req, resp, stream, span)

    on_head = on_get

    def _begin(
        self, req: falcon.Request, stream: output_stream.OutputStream, query: OutputQuery
    ) -> int:
        """Return the offset at which the answer begins."""
        if query.tail is not None:
            if query.offset is not None:
                fault = worker_core.FieldError("tail", "give either offset or tail, not both")
                raise problems.invalid([fault])
            return self._tail_offset(req, stream, query.tail)
        offset, size = query.offset or 0, stream.info.size
        if offset > size:
            raise problems.Problem(
                "range_not_satisfiable",
                f"offset {offset} is past the end: there are {size} bytes",
                headers={"Content-Range": f"bytes */{size}"},
            )
        return max(offset, stream.info.start)

    def _tail_offset(
        self, req: falcon.Request, stream: output_stream.OutputStream, lines: int
    ) -> int:
        """Return where a tail begins.

        A long search takes a place, as a request that follows does, and ends when its client has
        left.
        """
        blocks = 0

        def look() -> None:
            nonlocal blocks
            blocks += 1
            if blocks == _BLOCKS_AT_ONCE:
                place.enter_context(self.services.long_requests.enter(req.context.user))
            if self.services.long_requests.over(req):
                raise problems.draining()

        with contextlib.ExitStack() as place:
            return stream.tail_offset(lines, look)

    def _follow(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        stream: output_stream.OutputStream,
        start: int,
    ) -> None:
        long_requests.pass_on(resp)
        if req.method != "HEAD":
            place = self.services.long_requests.enter(req.context.user)
            resp.stream = long_requests.Stream(self._followed(req, stream, start), place)

    def _followed(
        self, req: falcon.Request, stream: output_stream.OutputStream, start: int
    ) -> Generator[bytes, None, None]:
        """Yield the output until the job has ended.

        Only the end of the job may look like the end of the answer. For anything else this raises
        an OSError: the server breaks the connection off, and the client comes back at its offset.
        """
        long_requests.send_head(req)
        try:
            for chunk in stream.follow(start, long_requests.HEARTBEAT):
                if self.services.long_requests.over(req):
                    raise ConnectionAbortedError("the client has left, or the server is stopping")
                long_requests.check_login(req)
                yield chunk
        except worker_core.WorkerError as error:
            _log.warning("stopped following %s: %s", stream.job.id, error)
            raise ConnectionAbortedError(str(error)) from None

    def _send_range(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        stream: output_stream.OutputStream,
        span: ranges.Span,
    ) -> None:
        """Answer with bytes: all of `span`, the part that Range names, or 304."""
        resp.set_header("Accept-Ranges", "bytes")
        tag = _tag(stream, span)
        if tag is not None:
            resp.etag = tag
            resp.set_header("Cache-Control", "private, no-cache")
            if tag in (req.if_none_match or ()) or "*" in (req.if_none_match or ()):
                resp.status = 304
                return
        part = None
        if req.if_range is None or req.if_range == (tag and tag.dumps()):
            part = ranges.ranged(req.get_header("Range"), span)
        if part is not None:
            resp.status = 206
            resp.content_range = (part.start - span.start, part.end - span.start - 1, span.size)
        self._send_bytes(req, resp, stream, part or span)

    def _send_bytes(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        stream: output_stream.OutputStream,
        span: ranges.Span,
    ) -> None:
        """Send bytes. A finished output is sent as a file, which needs no thread."""
        resp.content_length = span.size
        if not stream.info.final or span.size <= _AT_ONCE:
            self._send(req, resp, stream.exact_bytes(span), span)
        elif req.method != "HEAD":
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.services.downloads.enter(req.context.user))
                file = stack.enter_context(stream.file(span))
                resp.stream = open_files.Download(file, stack.pop_all())

    def _send(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        chunks: Generator[bytes, None, None],
        span: ranges.Span,
    ) -> None:
        """Send a short answer at once. A long one is sent while it is made, and takes a place."""
        if span.size <= _AT_ONCE:
            resp.data = b"".join(chunks)
        elif req.method != "HEAD":
            with contextlib.ExitStack() as stack:
                for cap in (self.services.long_requests, self.services.downloads):
                    stack.enter_context(cap.enter(req.context.user))
                kept = long_requests.while_logged_in(req, chunks)
                resp.stream = long_requests.Stream(kept, stack.pop_all())


def _tag(stream: output_stream.OutputStream, span: ranges.Span) -> falcon.ETag | None:
    if not stream.info.final:
        return None
    return falcon.ETag(f"{stream.job.id}.{stream.name}.{span.start}-{span.end}")


def _media_type(req: falcon.Request, query: OutputQuery) -> str:
    """Return the media type: JSON unless the client prefers bytes; always bytes to follow."""
    offered = (
        (OCTETS, TEXT, falcon.MEDIA_JSON) if query.follow else (falcon.MEDIA_JSON, OCTETS, TEXT)
    )
    try:
        chosen = req.client_prefers(offered)
    except falcon.HTTPError:
        chosen = None
    if query.follow and chosen == falcon.MEDIA_JSON:
        fault = worker_core.FieldError("follow", f"needs the header Accept: {OCTETS} (or {TEXT})")
        raise problems.invalid([fault])
    return chosen or offered[0]
