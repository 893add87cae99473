"""Reading spool files by offset and from the end."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_core import spool


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
