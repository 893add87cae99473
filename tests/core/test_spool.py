"""Reading spool files by offset and from the end."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_core.output import spool


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "output")


def test_a_file_that_is_not_there_yet_is_empty(path):
    """The output of a job that has not started would be an error."""
    assert (spool.size(path), spool.read(path, 0, 10)) == (0, b"")
    assert spool.tail_offset(path, 0, 0, 5) == 0


def test_any_part_can_be_read(path):
    """A reader would get bytes twice or not at all."""
    data = os.urandom(3 << 20)
    with open(path, "wb") as file:
        file.write(data)
    assert spool.read(path, 0, len(data) * 2) == data
    assert spool.read(path, 5, (2 << 20) + 1) == data[5 : (2 << 20) + 6]
    assert spool.read(path, len(data), 1) == b""


@given(
    data=st.text("ab\n", max_size=60).map(str.encode),
    lines=st.integers(0, 8),
    start=st.integers(0, 20),
)
def test_the_tail_is_that_of_tail(tmp_path_factory, data, lines, start):
    """`--tail 5` would show other lines than `tail -n 5`."""
    path = str(tmp_path_factory.mktemp("spool") / "output")
    with open(path, "wb") as file:
        file.write(data)
    start = min(start, len(data))
    kept = data[start:]
    expected = b"".join(kept.splitlines(keepends=True)[-lines:]) if lines else b""
    at = spool.tail_offset(path, start, len(data), lines)
    assert data[at:] == expected


def test_the_tail_of_a_file_of_many_blocks(path, monkeypatch):
    """Lines that span blocks would be counted twice."""
    monkeypatch.setattr(spool, "CHUNK", 7)
    text = b"".join(b"line %d\n" % n for n in range(100))
    with open(path, "wb") as file:
        file.write(text)
    for lines in (1, 2, 50, 99, 100, 101):
        at = spool.tail_offset(path, 0, len(text), lines)
        assert text[at:] == b"".join(text.splitlines(keepends=True)[-lines:])


@pytest.fixture
def read_bytes(monkeypatch):
    """How many bytes each read of a tail has got."""
    seen = []
    whole = os.pread

    def pread(descriptor, length, offset):
        data = whole(descriptor, length, offset)
        seen.append(len(data))
        return data

    monkeypatch.setattr(spool.os, "pread", pread)
    return seen


def test_the_tail_of_a_sparse_file_is_found_at_once(path, read_bytes):
    """`--tail 1` of a sparse output of 15 TiB took hours."""
    with open(path, "wb") as file:
        file.write(b"first\n")
        file.truncate(15 << 40)
    blocks = []
    at = spool.tail_offset(path, 0, 15 << 40, 1, lambda: blocks.append(1))
    assert at == (15 << 40) - spool.LONGEST_TAIL
    assert sum(read_bytes) <= spool.CHUNK
    assert len(blocks) <= spool.LONGEST_TAIL // spool.CHUNK


def test_a_hole_is_skipped_on_the_way_to_a_line(path, read_bytes):
    """Each hole in an output would be read as zeros."""
    size = 100 << 20
    with open(path, "wb") as file:
        file.write(b"first\nsecond")
        file.truncate(size)
    assert spool.tail_offset(path, 0, size, 1) == 6
    assert sum(read_bytes) <= 2 * spool.CHUNK


def test_no_tail_is_searched_for_further_than_the_longest(path, monkeypatch, read_bytes):
    """`--tail 1000000000` took 20 s to its first byte, and as much time of the server."""
    monkeypatch.setattr(spool, "LONGEST_TAIL", 4 * spool.CHUNK)
    size = 10 * spool.CHUNK
    with open(path, "wb") as file:
        file.write(b"x" * size)
    assert spool.tail_offset(path, 0, size, 1) == size - 4 * spool.CHUNK
    assert sum(read_bytes) <= 4 * spool.CHUNK + 1


def test_nothing_is_read_for_more_lines_than_there_can_be(path, read_bytes):
    """Who wants everything, as the last billion lines, would wait for a search."""
    with open(path, "wb") as file:
        file.write(b"line\n" * 100_000)
    assert spool.tail_offset(path, 0, 500_000, 1_000_000_000) == 0
    assert sum(read_bytes) <= 1


def test_a_search_ends_when_its_caller_wants(path):
    """A search would go on after the client has left."""

    class GoneError(Exception):
        pass

    def gone():
        raise GoneError

    with open(path, "wb") as file:
        file.write(b"x" * 100)
    with pytest.raises(GoneError):
        spool.tail_offset(path, 0, 100, 1, gone)
