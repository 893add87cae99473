"""A job's output as bytes: none is lost or repeated when a connection breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from worker_cli import errors
from worker_cli.job import FINAL
from worker_cli.net.transport import DRAINING, TOO_MANY_FOLLOWERS

if TYPE_CHECKING:
    import requests

    from worker_cli.net.transport import Transport

POLL_SECONDS = 2.0


class Output:
    """The bytes of one stream of a job, as an iterable of chunks; iterate it only once.

    After a lost connection a new one continues at the same offset. Iterating raises what
    `Client.status` raises, and ConnectionLost when the server stays unavailable for longer than
    the client's patience.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        *,
        stream: str = "stdout",
        offset: int = 0,
        tail: int | None = None,
        follow: bool = False,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> None:
        self._transport, self._path, self._stream = transport, path, stream
        self._tail, self._follow, self._on_gap = tail, follow, on_gap
        self.offset = offset
        """The offset of the next byte."""
        self.size: int | None = None
        """The size of the whole output at the latest answer; None before the first one."""
        self._final = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks; without `follow` only the output that existed at the first answer."""
        if not self._follow or self._tail is not None:
            yield from self._snapshot()
        if self._follow:
            yield from self._follow_to_end()

    def _snapshot(self) -> Iterator[bytes]:
        response = self._open_snapshot(self._tail)
        end = self.offset + int(response.headers.get("Content-Length", 0))
        for chunk in self._with_reconnects(response, follow=False):
            # After a reconnect, a running job may have more output than at first; leave that out.
            yield chunk[: len(chunk) - max(0, self.offset - end)]
            if self.offset >= end:
                self.offset = end
                return

    def _follow_to_end(self) -> Iterator[bytes]:
        """Follow until a response that began after the job's end was read completely.

        A response that began earlier may end before the job does: a server that is being
        restarted ends the responses of its followers cleanly.
        """
        pauses = self._transport.pauses()
        while True:
            offset_before = self.offset
            response, pause = self._open_follower()
            final = self._final
            yield from self._with_reconnects(response, follow=True)
            if final:
                return
            if pause:
                self._transport.sleep(pause)
            elif self.offset > offset_before:
                pauses = self._transport.pauses()
            else:
                self._transport.sleep(next(pauses, POLL_SECONDS))

    def _open_follower(self) -> tuple[requests.Response, float]:
        """Open a response that follows, and return it with 0.0.

        When the server has too many followers, return a response of the output so far, and how
        long to pause before the next one.
        """
        try:
            return self._transport.with_retries(lambda: self._open(follow=True)), 0.0
        except errors.RequestRefused as error:
            if error.code != TOO_MANY_FOLLOWERS:
                raise
            pause = error.retry_after or POLL_SECONDS
        return self._open_snapshot(), pause

    def _open_snapshot(self, tail: int | None = None) -> requests.Response:
        """Open a response of the output so far; the server counts a long one as a follower."""
        return self._transport.with_retries(
            lambda: self._open(follow=False, tail=tail), (DRAINING, TOO_MANY_FOLLOWERS)
        )

    def _with_reconnects(self, response: requests.Response, *, follow: bool) -> Iterator[bytes]:
        """Yield the body of a response; when it breaks off, continue with another response."""
        pauses = self._transport.pauses()
        while True:
            try:
                with response:
                    for chunk in self._transport.chunks(response):
                        self.offset += len(chunk)
                        pauses = self._transport.pauses()
                        yield chunk
                return
            except errors.ConnectionLost as error:
                pause = next(pauses, None)
                if pause is None:
                    raise
                self._transport.report_outage(error)
                self._transport.sleep(pause)
            response = self._open_follower()[0] if follow else self._open_snapshot()

    def _open(self, *, follow: bool, tail: int | None = None) -> requests.Response:
        params: dict[str, str | int] = {"stream": self._stream}
        params |= {"offset": self.offset} if tail is None else {"tail": tail}
        params |= {"follow": "true"} if follow else {}
        response = self._transport.stream(self._path, params, endless=follow)
        self._read_headers(response, tail)
        return response

    def _read_headers(self, response: requests.Response, tail: int | None) -> None:
        """Read from the headers where the body begins, and whether the job has ended."""
        headers = response.headers
        self.size = int(headers["X-Output-Size"]) if "X-Output-Size" in headers else None
        self._final = headers.get("X-Job-Status") in FINAL
        if tail is not None:
            self.offset = (self.size or 0) - int(headers.get("Content-Length", 0))
            return
        start = int(headers.get("X-Output-Start", 0))
        if start > self.offset:
            if self._on_gap:
                self._on_gap(self.offset, start)
            self.offset = start
