"""A job's output as bytes, read over as many connections as it takes, losing and repeating none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from worker_cli import errors
from worker_cli.job import FINAL
from worker_cli.net.transport import DRAINING, FOLLOWERS_FULL

if TYPE_CHECKING:
    import requests

    from worker_cli.net.transport import Transport

POLL_SECONDS = 2.0


class Output:
    """The bytes of one stream of a job, as an iterable of chunks; to be iterated once.

    A connection that is lost is made again and the stream goes on at its offset. Iterating raises
    what `Client.status` raises, and Dropped when the server stays away for longer than the
    client's patience.
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
        """The offset of the next byte to come."""
        self.size: int | None = None
        """Where the output ended when the server was last asked; None before it has answered."""
        self._final = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks; without `follow` what was there at the first answer, and no more."""
        if not self._follow or self._tail is not None:
            yield from self._snapshot()
        if self._follow:
            yield from self._until_the_end()

    def _snapshot(self) -> Iterator[bytes]:
        response = self._open_snapshot(self._tail)
        end = self.offset + int(response.headers.get("Content-Length", 0))
        for chunk in self._resumed(response, follow=False):
            # After a lost connection a job that goes on may have more than it had at first.
            yield chunk[: len(chunk) - max(0, self.offset - end)]
            if self.offset >= end:
                self.offset = end
                return

    def _until_the_end(self) -> Iterator[bytes]:
        """Follow until an answer that began after the job's end was read to its own end.

        An answer that began earlier may end before the job does: a daemon that is being restarted
        ends its followers cleanly.
        """
        pauses = self._transport.pauses()
        while True:
            before = self.offset
            response, pause = self._open_follower()
            final = self._final
            yield from self._resumed(response, follow=True)
            if final:
                return
            if pause:
                self._transport.sleep(pause)
            elif self.offset > before:
                pauses = self._transport.pauses()
            else:
                self._transport.sleep(next(pauses, POLL_SECONDS))

    def _open_follower(self) -> tuple[requests.Response, float]:
        """Open a response that follows; where followers are full, one that does not and a pause."""
        try:
            return self._transport.patiently(lambda: self._open(follow=True)), 0.0
        except errors.Refused as error:
            if error.code != FOLLOWERS_FULL:
                raise
            pause = error.retry_after or POLL_SECONDS
        return self._open_snapshot(), pause

    def _open_snapshot(self, tail: int | None = None) -> requests.Response:
        """Open a response of what is there; a long one needs a follower's place, too."""
        return self._transport.patiently(
            lambda: self._open(follow=False, tail=tail), (DRAINING, FOLLOWERS_FULL)
        )

    def _resumed(self, response: requests.Response, *, follow: bool) -> Iterator[bytes]:
        """Yield a response's body to its end, with others in its place where it breaks off."""
        pauses = self._transport.pauses()
        while True:
            try:
                with response:
                    for chunk in self._transport.chunks(response):
                        self.offset += len(chunk)
                        pauses = self._transport.pauses()
                        yield chunk
                return
            except errors.Dropped as error:
                pause = next(pauses, None)
                if pause is None:
                    raise
                self._transport.note_outage(error)
                self._transport.sleep(pause)
            response = self._open_follower()[0] if follow else self._open_snapshot()

    def _open(self, *, follow: bool, tail: int | None = None) -> requests.Response:
        params: dict[str, str | int] = {"stream": self._stream}
        params |= {"offset": self.offset} if tail is None else {"tail": tail}
        params |= {"follow": "true"} if follow else {}
        response = self._transport.stream(self._path, params, endless=follow)
        self._note(response, tail)
        return response

    def _note(self, response: requests.Response, tail: int | None) -> None:
        """Take what the headers tell: where the body begins, and whether the job has ended."""
        told = response.headers
        self.size = int(told["X-Output-Size"]) if "X-Output-Size" in told else None
        self._final = told.get("X-Job-Status") in FINAL
        if tail is not None:
            self.offset = (self.size or 0) - int(told.get("Content-Length", 0))
            return
        start = int(told.get("X-Output-Start", 0))
        if start > self.offset:
            if self._on_gap:
                self._on_gap(self.offset, start)
            self.offset = start
