"""An owner who sends signals or kills without end does not hold up the jobs of others."""

import pytest
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.turns import ONCE, Turns
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


def test_the_most_urgent_of_repeated_kills_is_done(loop):
    """A kill without grace would be dropped for one with grace that came before."""
    turns, done = Turns(loop), []
    turns.signal("me", "signal", lambda: loop.clock.advance(1))
    for grace in (10.0, 0.0, 5.0):
        turns.kill("me", "kill", lambda grace=grace: done.append(grace), due=grace)
    loop.clock.advance(20)
    loop._run_timers()
    assert done == [0.0]


def test_kills_of_small_jobs_are_not_held_up(loop):
    """An owner with thousands of jobs would wait minutes for their end."""
    turns, done = Turns(loop), []

    def small(number):
        loop.clock.advance(0.004)
        done.append(number)

    for number in range(1000):
        turns.kill("me", number, lambda number=number: small(number), due=0.0)
    assert done == list(range(1000))


def test_first_kills_of_huge_jobs_leave_half_of_the_time_to_others(loop):
    """The kills of many jobs with thousands of processes each held up every other job."""
    turns, done = Turns(loop), []

    def huge(number):
        loop.clock.advance(0.2)
        done.append(number)

    began = loop.clock.monotonic()
    for number in range(20):
        turns.kill("me", number, lambda number=number: huge(number), due=0.0)
    assert len(done) < 5
    turns.kill("other", "job", lambda: done.append("other's"), due=0.0)
    assert done[-1] == "other's"
    while loop._timers:
        loop.clock.advance(0.01)
        loop._run_timers()
    assert len(done) == 21
    assert loop.clock.monotonic() - began > 1.8 * 20 * 0.2


def test_no_flood_of_signals_keeps_a_kill_waiting(loop):
    """A job could escape its timeout, or an administrator's kill, by signalling itself."""
    turns, done = Turns(loop), []
    turns.signal("me", "first", lambda: loop.clock.advance(1))
    for number in range(100):
        turns.signal("me", number, lambda: loop.clock.advance(1))
    turns.kill("me", "soft", lambda: done.append("soft"), due=20.0)
    turns.kill("me", "hard", lambda: done.append("hard"), due=0.0)
    loop.clock.advance(10)
    loop._run_timers()
    assert done[:2] == ["hard", "soft"]


def test_the_parts_of_one_kill_are_turns_too(loop):
    """A tree of thirty thousand processes would hold the loop as long as thirty smaller ones."""
    turns, done = Turns(loop), []

    def part(left):
        loop.clock.advance(0.03)
        done.append(left)
        if left:
            turns.go_on("me", lambda: part(left - 1), rest=ONCE)

    turns.kill("me", "job", lambda: part(3), due=0.0)
    assert done == [3]
    while loop._timers:
        loop.clock.advance(0.01)
        loop._run_timers()
    assert done == [3, 2, 1, 0]
