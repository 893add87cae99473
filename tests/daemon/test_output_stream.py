"""The parts below the API that decide about single bytes: texts, ranges, JSON, fields."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import api as support
from support.api import OCTETS, User
from support.waiting import wait_until
from worker_core import Engine, Job, JobSpec, OutputInfo, State
from worker_daemon import problems, strict_json
from worker_daemon.api import output_stream, ranges

JOB = Job("an id", "alice", JobSpec("x"), State.COMPLETED, 0.0)


class Spool:
    """Stands for the engine: one output, of which the oldest bytes may go while it is read."""

    def __init__(self, path: Path, start: int = 0, *, final: bool = True) -> None:
        self.path, self.starts, self.final = path, [start], final

    def output_info(self, _job_id: str, _stream: str) -> OutputInfo:
        """Return the next of the starts, and the last one for ever."""
        start = self.starts.pop(0) if len(self.starts) > 1 else self.starts[0]
        return OutputInfo(self.path.stat().st_size, start, self.path, self.final)

    def open_output(self, _job_id: str, _stream: str) -> Any:
        """Return the file."""
        return self.path.open("rb", buffering=0)

    def stream(self) -> output_stream.OutputStream:
        """Return what the daemon makes of it."""
        info = self.output_info("", "")
        return output_stream.OutputStream(self, JOB, "stdout", info)  # type: ignore[arg-type]


def document(found: output_stream.OutputStream, start: int = 0) -> dict[str, Any]:
    """Return the JSON document of an output from an offset on."""
    span = ranges.Span(start, found.info.size)
    told: dict[str, Any] = json.loads(b"".join(found.document(span)))
    return told


WHOLE = ["a", "\n", '"', "\\", "\x00", "ä", "漢", "\U0001f600", "\ufffd"]
BROKEN = [b"\xff", b"\xe2\x82", b"\xf0\x9f", b"\xc3", b"\x80", b"\xed\xa0\x80"]
BITS = st.sampled_from([*map(str.encode, WHOLE), *BROKEN])


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server's pieces be so small that many characters fall between two."""
    monkeypatch.setattr(output_stream, "_PIECE", 5)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a file for all examples; a directory for each would take most of the time."""
    return tmp_path_factory.mktemp("spool") / "output"


@settings(max_examples=300, deadline=None)
@given(data=st.lists(BITS, max_size=30).map(b"".join), start=st.integers(0, 20))
def test_any_bytes_in_any_pieces(spool: Path, data: bytes, start: int) -> None:
    """Texts would be damaged, or damage be hidden, depending on where the server cuts them."""
    spool.write_bytes(data)
    start = min(start, len(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_stream, "_PIECE", 5)
        told = document(Spool(spool).stream(), start)
    assert told["output"] == data[start:].decode(errors="replace")
    assert told["lossy"] is _lossy(data[start:])
    assert told["next_offset"] == told["size"] == len(data)


@settings(max_examples=200, deadline=None)
@given(bits=st.lists(BITS, max_size=20), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_a_growing_output_read_bit_by_bit(spool: Path, bits: list[bytes], cuts: list[int]) -> None:
    """A user who polls a running job would see characters torn apart, twice or not at all."""
    data = b"".join(bits)
    text, offset = "", 0
    for end in [*sorted(cuts), len(data)]:
        spool.write_bytes(data[:end])
        told = document(Spool(spool, final=False).stream(), offset)
        text += told["output"]
        offset = told["next_offset"]
    text += document(Spool(spool).stream(), offset)["output"]
    assert text == data.decode(errors="replace")


@pytest.mark.usefixtures("small_pieces")
def test_bytes_that_go_while_they_are_read(tmp_path: Path) -> None:
    """Zeros, which the disk gives in place of what is gone, would pass for output."""
    path = tmp_path / "output"
    path.write_bytes(b"\x00" * 13 + b"\xa4" + b"still there")
    spool = Spool(path, final=False)
    spool.starts = [0, 0, 13]  # it goes between the first piece and the second
    told = document(spool.stream())
    assert told["output"] == "\x00" * 5 + "\ufffdstill there"
    assert (told["start"], told["next_offset"]) == (13, 25)


@pytest.mark.usefixtures("small_pieces")
def test_raw_bytes_end_where_some_are_gone(tmp_path: Path) -> None:
    """A client that counts bytes would take what comes later for what is gone."""
    path = tmp_path / "output"
    path.write_bytes(b"0123456789abcdefghij")
    spool = Spool(path, final=False)
    spool.starts = [0, 0, 12]
    assert b"".join(spool.stream().exact_bytes(ranges.Span(0, 20))) == b"01234"


def test_a_file_that_is_shorter_than_told(tmp_path: Path) -> None:
    """Reading would never end when somebody has cut the file."""
    path = tmp_path / "output"
    path.write_bytes(b"0123456789")
    found = Spool(path).stream()
    path.write_bytes(b"0123")
    assert b"".join(found.exact_bytes(ranges.Span(0, 10))) == b"0123"
    assert document(found)["output"] == "0123"


@given(
    size=st.integers(0, 30),
    offset=st.integers(0, 5),
    first=st.none() | st.integers(0, 40),
    last=st.none() | st.integers(0, 40),
)
def test_ranges_are_slices(size: int, offset: int, first: int | None, last: int | None) -> None:
    """A download would be put together from the wrong parts."""
    data = bytes(range(offset + size))
    whole = ranges.Span(offset, offset + size)
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    body = data[offset:]
    if first is None and last is None:
        expected = None
    elif first is None:
        expected = body[-last:] if last else b""
    else:
        expected = None if last is not None and last < first else body[first : _end(last)]
    if expected == b"":
        with pytest.raises(problems.Problem):
            ranges.ranged(header, whole)
    else:
        part = ranges.ranged(header, whole)
        assert (None if part is None else data[part.start : part.end]) == expected


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        st.characters(exclude_categories=[])
        | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_every_value_is_read_as_it_was_written(value: object) -> None:
    """An argument with raw bytes in it would come back as another one."""
    try:
        expected = json.loads(json.dumps(value))
    except UnicodeError:
        return
    assert strict_json.decode(strict_json.encode(value)) == expected


@given(st.binary(max_size=50))
def test_no_bytes_are_more_than_refused(data: bytes) -> None:
    """A body that is not JSON would be a server error."""
    with contextlib.suppress(ValueError):
        strict_json.decode(data)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.0", 1), ("1e2", 100), ("-0.0", 0), ("1.5", 1.5), ("[2.0]", [2]), ("1e400", float("inf"))],
)
def test_whole_numbers_however_written(text: str, value: object) -> None:
    """A client whose language has one kind of number could not give a whole one."""
    read = strict_json.decode(text.encode())
    assert read == value
    assert type(read) is type(value)


def test_a_follower_that_falls_behind_is_broken_off(
    alice: User, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that counts bytes would never learn that some are missing."""
    job_id = alice.run("echo", "hi")
    alice.ended(job_id)

    def gapped(*_: object, on_gap: Any, **__: object) -> Iterator[bytes]:
        yield b"first"
        on_gap(5, 100)
        yield b"later"

    monkeypatch.setattr(engine, "follow", gapped)
    answer = alice.get(f"/jobs/{job_id}/out?follow=true", headers=OCTETS, stream=True)
    with pytest.raises(support.requests.exceptions.ChunkedEncodingError):
        assert answer.content
    answer.close()


def test_a_start_that_moved_before_the_first_byte(
    alice: User, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client would take the first bytes for those at the offset in the header."""
    job_id = alice.run("echo", "hi")
    alice.ended(job_id)
    real = engine.output_info
    told = threading.Event()

    def moving(*args: Any) -> OutputInfo:
        info = real(*args)
        later = told.is_set()
        told.set()
        return OutputInfo(info.size, 2 if later else 0, info.path, info.final)

    monkeypatch.setattr(engine, "output_info", moving)
    answer = alice.get(f"/jobs/{job_id}/out?follow=true", headers=OCTETS, stream=True)
    assert answer.headers["X-Output-Start"] == "0"
    wait_until(told.is_set)
    with pytest.raises(support.requests.exceptions.ChunkedEncodingError):
        assert answer.content
    answer.close()


def _lossy(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _end(last: int | None) -> int | None:
    return None if last is None else last + 1
