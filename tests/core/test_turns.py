"""Who asks for signals without end keeps the supervisor from nobody else."""

import pytest
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.turns import Turns
from worker_core.testing.fakes import FakeClock


@pytest.fixture
def loop():
    loop = Loop(FakeClock())
    yield loop
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


def test_signals_of_one_owner_take_a_tenth_of_the_time(loop):
    """400 signals to a job of 1,500 processes held up every start for 49 seconds."""
    turns, done = Turns(loop), []

    def slow(name):
        loop.clock.advance(0.1)
        done.append(name)

    for _ in range(100):
        turns.signal("me", ("job", 10), lambda: slow("first"))
        turns.signal("me", ("job", 12), lambda: slow("second"))
    assert done == ["first"]
    turns.signal("other", ("job", 10), lambda: done.append("other's"))
    assert done == ["first", "other's"]
    began = loop.clock.monotonic()
    while loop._timers:
        loop.clock.advance(0.1)
        loop._run_timers()
    assert sorted(done) == ["first", "first", "other's", "second"]
    assert loop.clock.monotonic() - began > 1


def test_quick_signals_are_each_done_at_once(loop):
    """A program that counts its signals would miss some."""
    turns, done = Turns(loop), []
    for number in range(1000):
        turns.signal("me", "same", lambda number=number: done.append(number))
    assert done == list(range(1000))


def test_of_repeated_kills_the_most_urgent_is_done(loop):
    """A kill without grace would be dropped for one with grace that came before."""
    turns, done = Turns(loop), []
    turns.signal("me", "signal", lambda: loop.clock.advance(1))
    for grace in (10.0, 0.0, 5.0):
        turns.kill("me", "kill", lambda grace=grace: done.append(grace), due=grace)
    loop.clock.advance(20)
    loop._run_timers()
    assert done == [0.0]
