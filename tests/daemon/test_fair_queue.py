"""The line in which networks have their turns."""

import pytest
from worker_daemon.edge import fair_queue


def test_each_network_has_its_turn():
    """A stranger with a thousand connections would be served before everybody who comes later."""
    line = fair_queue.FairQueue()
    for number in range(1000):
        line.add("stranger", number)
    line.add("alice", "a")
    line.add("bob", "b")
    assert [line.take() for _ in range(5)] == [0, "a", "b", 1, 2]
    line.add("alice", "a2")
    assert [line.take() for _ in range(2)] == [3, "a2"]


def test_an_empty_line_is_false():
    """The main loop would never wait, or always."""
    line = fair_queue.FairQueue()
    assert not line
    line.add("alice", 1)
    assert line
    line.take()
    assert not line
    with pytest.raises(KeyError):
        line.take()
