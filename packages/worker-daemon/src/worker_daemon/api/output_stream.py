"""Reading a span of a job's output piece by piece, so that no answer is ever whole in memory."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Generator

import worker_core

from worker_daemon import strict_json
from worker_daemon.api import ranges

_PIECE = 256 << 10
_UTF8 = codecs.getincrementaldecoder("utf-8")


@dataclasses.dataclass(frozen=True)
class Reading:
    """One stream of a job as it was at one moment: `job` was read first, `info` after it."""

    engine: worker_core.Engine
    job: worker_core.Job
    stream: str
    info: worker_core.OutputInfo

    def pieces(self, span: ranges.Span) -> Generator[tuple[int, bytes], None, None]:
        """Yield the bytes of a span, each piece with its offset.

        Of a job that writes more than is kept, the oldest bytes may be given back to the disk
        while this reads: then the next piece begins later than the one before ended.
        """
        with self.engine.open_output(self.job.id, self.stream) as file:
            at = span.start
            while at < span.end:
                file.seek(at)
                data = file.read(min(_PIECE, span.end - at))
                kept = at if self.info.final else self.start()
                if kept > at:  # what was read may be zeros by now
                    at = kept
                elif data:
                    yield at, data
                    at += len(data)
                else:
                    return

    def start(self) -> int:
        """Return the offset of the first byte that is still kept."""
        return self.engine.output_info(self.job.id, self.stream).start

    def exactly(self, span: ranges.Span) -> Generator[bytes, None, None]:
        """Yield the bytes of a span; end early where some are not kept any more."""
        due = span.start
        for at, data in self.pieces(span):
            if at != due:
                return
            yield data
            due += len(data)

    def document(self, span: ranges.Span) -> Generator[bytes, None, None]:
        """Yield a JSON document with the span as text.

        Bytes that are not UTF-8 are replaced, and `lossy` says so. A character of which the job
        has not written all bytes yet is left to the next request, which begins at `next_offset`.
        """
        head = {"id": self.job.id, "status": self.job.state.value, "output": ""}
        yield strict_json.encode(head)[:-2]
        text = _Text(whole=self.info.final)
        for at, data in self.pieces(span):
            yield text.escaped(at, data)
        yield text.rest()
        tail = {
            "lossy": text.lossy,
            "size": self.info.size,
            "start": self.info.start if self.info.final else self.start(),
            "next_offset": max(text.at, span.start),
        }
        yield b'", ' + strict_json.encode(tail)[1:] + b"\n"


class _Text:
    """Turns pieces of bytes into pieces of a JSON string.

    `at` is the offset at which the last character ended.
    """

    def __init__(self, *, whole: bool) -> None:
        self.lossy = False
        self.at = 0
        self._whole = whole
        self._decoder = _UTF8("strict")

    def escaped(self, at: int, data: bytes) -> bytes:
        """Decode one more piece, which begins at an offset."""
        if at != self.at + len(self._pending()):  # nothing fits what was before a gap
            self._decoder.reset()
        text = self._decoded(data)
        self.at = at + len(data) - len(self._pending())
        return strict_json.encode_inside(text)

    def rest(self) -> bytes:
        """Decode what is left, if no more bytes will ever come to make a character of it."""
        left = len(self._pending()) if self._whole else 0
        self.at += left
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
