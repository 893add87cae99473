"""Frames between engine and supervisor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_core import wire

MESSAGES = [{"op": "start", "id": "x" * n, "text": "é\udcff\n"} for n in (0, 1, 5000)]


@given(st.lists(st.integers(1, 3000), max_size=10))
def test_messages_arrive_whole_however_they_are_cut(cuts):
    """A message would be lost or doubled where a read ends inside it."""
    data = b"".join(map(wire.encode, MESSAGES))
    decoder, found, at = wire.Decoder(), [], 0
    for size in [*cuts, len(data)]:
        found += decoder.feed(data[at : at + size])
        at += size
    assert found == MESSAGES


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff", b"\0\0\0\x02[]", b"\0\0\0\x01{", b"\0\0\0\x02\xff\xff"],
    ids=["too long", "no object", "no JSON", "no text"],
)
def test_what_is_no_frame_is_refused(data):
    """Garbage on the socket would be taken for a request, or fill the memory."""
    with pytest.raises(wire.ProtocolError):
        wire.Decoder().feed(data)


def test_what_is_missing_of_a_message_is_known():
    """A supervisor would read a long request in a thousand pieces, or many short ones at once."""
    frame = wire.encode({"op": "start", "id": "a" * 100})
    decoder = wire.Decoder()
    assert decoder.missing == 4
    assert decoder.feed(frame[:2]) == []
    assert decoder.missing == 2
    assert decoder.feed(frame[2:10]) == []
    assert decoder.missing == len(frame) - 10
    assert len(decoder.feed(frame[10:])) == 1
    assert decoder.missing == 4
