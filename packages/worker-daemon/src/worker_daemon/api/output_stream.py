"""One stream of a job's output: as JSON, as bytes, or followed until the job has ended.

No answer is ever whole in memory: each is made piece by piece.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
from collections.abc import Callable, Generator
from typing import BinaryIO

import worker_core

from worker_daemon import strict_json
from worker_daemon.api import ranges

_PIECE = 256 << 10  # bytes
_UTF8 = codecs.getincrementaldecoder("utf-8")


class GapError(ConnectionAbortedError):
    """The next bytes to send were deleted, because the job writes more than its output limit.

    It is an OSError, so that the server breaks the connection off. A client that comes back gets
    the offset at which the output now begins.
    """

    def __init__(self, due: int, start: int) -> None:
        super().__init__(f"the bytes from {due} to {start} are not kept any more")


@dataclasses.dataclass(frozen=True)
class OutputStream:
    """One stream of a job. `info` says what was kept of it when the request arrived.

    `job` must be read before `info`: then an output that `job` calls final cannot be longer.
    """

    engine: worker_core.Engine
    job: worker_core.Job
    name: str
    info: worker_core.OutputInfo

    @classmethod
    def open(cls, engine: worker_core.Engine, job: worker_core.Job, name: str) -> OutputStream:
        """Look at a stream of a job that was read before; raises StreamNotSeparate."""
        return cls(engine, job, name, engine.output_info(job.id, name))

    def tail_offset(self, lines: int, on_block: Callable[[], None]) -> int:
        """Return the offset of the last `lines` lines; `on_block` is called in between."""
        found = self.engine.tail_offset(self.job.id, lines, self.name, on_block=on_block)
        return min(self.info.size, found)

    def file(self, span: ranges.Span) -> BinaryIO:
        """Return the file, positioned at the beginning of a span."""
        file = self.engine.open_output(self.job.id, self.name)
        file.seek(span.start)
        return file

    def follow(self, start: int, heartbeat: float) -> Generator[bytes, None, None]:
        """Yield the bytes from `start` on, as they are written, until the job has ended.

        Yields b"" after each silent `heartbeat` seconds. Raises GapError rather than leave bytes
        out, and WorkerError.
        """
        chunks = self.engine.follow(
            self.job.id, self.name, start, heartbeat=heartbeat, on_gap=_raise_gap
        )
        begun = False
        for chunk in chunks:
            if chunk and not begun:
                # The engine reports no gap before its first chunk.
                begun = True
                if (kept := self._start()) > start:
                    raise GapError(start, kept)
            yield chunk

    def exact_bytes(self, span: ranges.Span) -> Generator[bytes, None, None]:
        """Yield the bytes of a span; end early where some were deleted."""
        due = span.start
        for offset, data in self._pieces(span):
            if offset != due:
                return
            yield data
            due += len(data)

    def _pieces(self, span: ranges.Span) -> Generator[tuple[int, bytes], None, None]:
        """Yield the bytes of a span, each piece with its offset.

        If the job writes more than its output limit, its oldest bytes may be deleted while this
        reads. Then a piece begins after the end of the piece before.
        """
        with contextlib.closing(self.file(span)) as file:
            offset = span.start
            while offset < span.end:
                file.seek(offset)
                data = file.read(min(_PIECE, span.end - offset))
                kept = offset if self.info.final else self._start()
                if kept > offset:  # what was read may be zeros by now
                    offset = kept
                elif data:
                    yield offset, data
                    offset += len(data)
                else:
                    return

    def _start(self) -> int:
        """Return the offset of the first byte that is kept now."""
        return self.engine.output_info(self.job.id, self.name).start

    def document(self, span: ranges.Span) -> Generator[bytes, None, None]:
        """Yield a JSON document with the span as text.

        Bytes that are not UTF-8 are replaced, and `lossy` is then true. A character of which the
        job has written only some bytes is left out; the next request finds it at `next_offset`.
        """
        head = {"id": self.job.id, "status": self.job.state.value, "output": ""}
        yield strict_json.encode(head)[:-2]
        text = _Text(whole=self.info.final)
        for offset, data in self._pieces(span):
            yield text.escaped(offset, data)
        yield text.rest()
        tail = {
            "lossy": text.lossy,
            "size": self.info.size,
            "start": self.info.start if self.info.final else self._start(),
            "next_offset": max(text.end, span.start),
        }
        yield b'", ' + strict_json.encode(tail)[1:] + b"\n"


def _raise_gap(due: int, start: int) -> None:
    raise GapError(due, start)


class _Text:
    """Converts pieces of bytes to pieces of a JSON string.

    `end` is the offset at which the last character ended.
    """

    def __init__(self, *, whole: bool) -> None:
        self.lossy = False
        self.end = 0
        self._whole = whole
        self._decoder = _UTF8("strict")

    def escaped(self, offset: int, data: bytes) -> bytes:
        """Decode one more piece, which begins at `offset`."""
        if offset != self.end + len(self._pending()):  # there is a gap before it
            self._decoder.reset()
        text = self._decoded(data)
        self.end = offset + len(data) - len(self._pending())
        return strict_json.encode_inside(text)

    def rest(self) -> bytes:
        """Decode the bytes of an incomplete last character, if no more bytes will come."""
        left = len(self._pending()) if self._whole else 0
        self.end += left
        return strict_json.encode_inside(self._decoded(b"", final=True)) if left else b""

    def _decoded(self, data: bytes, *, final: bool = False) -> str:
        before = self._decoder.getstate()
        try:
            return self._decoder.decode(data, final)
        except UnicodeDecodeError:
            self.lossy = True
            self._decoder = _UTF8("replace")
            self._decoder.setstate(before)
            return self._decoder.decode(data, final)

    def _pending(self) -> bytes:
        return self._decoder.getstate()[0]
