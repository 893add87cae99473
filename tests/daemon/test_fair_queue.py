"""The queue in which networks take turns."""

import pytest
from worker_daemon.edge.shares import fair_queue


def taken(queue, count):
    """Take that many items."""
    return [queue.take() for _ in range(count)]


def test_each_network_has_its_turn():
    """A stranger with a thousand connections would be served before everybody who comes later."""
    queue = fair_queue.FairQueue()
    for number in range(1000):
        queue.add("stranger", number)
    queue.add("alice", "a")
    queue.add("bob", "b")
    assert taken(queue, 5) == [0, "a", "b", 999, 1]
    queue.add("alice", "a2")
    assert taken(queue, 2) == [998, "a2"]


def test_a_newcomer_of_a_network_does_not_wait_for_all_others():
    """A user behind the same address as a flood would wait until the whole flood is served."""
    queue = fair_queue.FairQueue()
    for number in range(1000):
        queue.add("shared", number)
    queue.add("shared", "alice")
    assert "alice" in taken(queue, 2)


def test_no_item_waits_forever():
    """A connection would never be served while newer ones of its network keep coming."""
    queue = fair_queue.FairQueue()
    for number in range(10):
        queue.add("shared", number)
    served = []
    for number in range(10, 40):
        queue.add("shared", number)
        served.append(queue.take())
    assert set(range(10)) <= set(served)


def test_a_removed_item_is_gone():
    """A client that comes and leaves would leave work behind for which all others wait."""
    queue = fair_queue.FairQueue()
    for number in range(5):
        queue.add("stranger", number)
    for number in (0, 4, 2, 2, 7):
        queue.discard("stranger", number)
    queue.discard("nobody", 1)
    assert taken(queue, 2) == [1, 3]
    assert not queue
    queue.add("stranger", 1)
    queue.discard("stranger", 1)
    assert not queue


def test_an_empty_queue_is_false():
    """The main loop would never wait, or always."""
    queue = fair_queue.FairQueue()
    assert not queue
    queue.add("alice", 1)
    assert queue
    queue.take()
    assert not queue
    with pytest.raises(KeyError):
        queue.take()
