"""What makes a job wait beside slots and turns: gates, scarce things, arrays, attempts."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_core.model.waiting.after import When
from worker_core.queue.arrays import Indices
from worker_core.queue.gates import Gate
from worker_core.queue.job_queue import JobQueue
from worker_core.queue.resources import Pool
from worker_core.queue.timers import Timers
from worker_core.queue.waiting import Waiting

GPUS = Pool("gpu", ("0", "1", "2", "3"))


def job(name, **wishes):
    """Return a job of the owner whose letter its name begins with."""
    return Waiting(name, name[0], **wishes)


def array(name, size, **wishes):
    return job(name, elements=Indices([range(1, size + 1)]), **wishes)


def texts(queue, name):
    return [each.text for each in queue.closed(name)]


# -- what the owner asked for ----------------------------------------------------------------------


def test_a_higher_priority_is_first_and_equal_ones_in_their_order():
    """An urgent job would wait behind a thousand others."""
    queue = JobQueue(1)
    queue.admit(job("a0"))
    for name, priority in (("a1", 0), ("a2", 5), ("a3", 0), ("a4", 5), ("a5", -1)):
        queue.admit(job(name, priority=priority))
    assert texts(queue, "a5") == [
        "waiting for a free slot: 1 of 1 running; 4 of a's jobs are ahead of it"
    ]
    queue.update("a3", {"priority": 9}, 0)
    order, running = [], "a0"
    while ready := queue.withdraw(running):
        (running,) = ready
        order.append(running)
    assert order == ["a3", "a2", "a4", "a1", "a5"]


def test_priorities_of_one_owner_do_not_hold_up_another():
    """Whoever writes the highest number would get the machine."""
    queue = JobQueue(1)
    queue.admit(job("b0"))
    queue.admit(job("b1"))
    queue.admit(job("a1", priority=100))
    queue.admit(job("a2", priority=100))
    assert queue.withdraw("b0") == ["b1"]


def test_a_held_job_starts_when_it_is_released():
    """`--hold` would do nothing, or hold for ever."""
    queue = JobQueue(2)
    assert queue.admit(job("a1", hold=True)) == []
    assert texts(queue, "a1") == ["held until it is released"]
    assert queue.update("a1", {"hold": False}, 0) == ["a1"]
    assert queue.closed("a1") == []


def test_a_job_starts_when_its_time_has_come():
    """`--at 22:00` would start at once, or never."""
    queue = JobQueue(2)
    assert queue.admit(job("a1", start_after=10.0), 5.0) == []
    assert queue.admit(job("a2", start_after=5.0), 5.0) == ["a2"]
    assert texts(queue, "a1") == ["waiting until 1970-01-01T00:00:10.000Z"]
    assert queue.next_time() == 10.0
    assert queue.tick(9.9) == []
    assert queue.tick(10.0) == ["a1"]
    assert queue.next_time() is None
    queue.admit(job("a3", start_after=50.0), 10.0)
    assert queue.update("a3", {"start_after": None}, 10.0) == []
    assert texts(queue, "a3") == ["waiting for a free slot: 2 of 2 running"]


def test_a_job_waits_until_all_its_dependencies_are_fulfilled():
    """A job would start after the first of two."""
    queue = JobQueue(2)
    queue.admit(job("a1", after={("x", When.SUCCESS), ("y", When.END)}))
    queue.fulfil("a1", "x", When.SUCCESS)
    assert queue.ready() == []
    (gate,) = queue.closed("a1")
    assert gate.to_dict() == {
        "gate": "dependency",
        "text": "waiting for job y to end",
        "jobs": [{"job": "y", "when": "end"}],
    }
    queue.fulfil("a1", "y", When.END)
    queue.fulfil("unknown", "y", When.END)
    assert queue.ready() == ["a1"]


def test_every_closed_gate_is_shown():
    """A user would release a job, and find the next reason, and the next."""
    queue = JobQueue(1, 1, pools=[GPUS])
    queue.admit(job("a0", lock="db", needs={"gpu": 2}))
    queue.admit(
        job("a1", hold=True, start_after=9.0, after={("x", When.END)}, lock="db", needs={"gpu": 3})
    )
    assert [each.gate for each in queue.closed("a1")] == [
        Gate.HOLD, Gate.TIME, Gate.DEPENDENCY, Gate.LOCK, Gate.RESOURCE, Gate.TURN, Gate.SLOTS,
    ]  # fmt: skip
    assert texts(queue, "a1")[3:] == [
        "waiting for the lock 'db', which another job has",
        "waiting for 3 of gpu: 2 of 4 free",
        "waiting for a free slot of a: 1 of 1 running",
        "waiting for a free slot: 1 of 1 running",
    ]
    assert queue.waiting_by_gate() == {Gate.HOLD: 1}


# -- attempts --------------------------------------------------------------------------------------


def test_a_job_between_two_attempts_holds_nothing():
    """A job that waits six minutes would keep a slot, a lock and a GPU from others."""
    queue = JobQueue(1, pools=[Pool("gpu", ("0",))])
    queue.admit(job("a1", lock="db", needs={"gpu": 1}))
    queue.admit(job("a2", lock="db", needs={"gpu": 1}))
    assert queue.attempt_again("a1", 10.0, "waiting for attempt 2") == ["a2"]
    assert texts(queue, "a1")[0] == "waiting for attempt 2"
    assert queue.tick(10.0) == []
    assert queue.withdraw("a2") == ["a1"]
    queue.attempt_again("a1", 99.0, "again")
    assert queue.attempt_now("a1") == ["a1"]
    assert queue.attempt_now("a1") == []


def test_a_job_that_is_attempted_again_has_its_old_place():
    """A job would go to the end of the line because a server was down for a moment."""
    queue = JobQueue(1)
    for name in ("a1", "a2", "a3"):
        queue.admit(job(name))
    assert queue.attempt_again("a1", 1.0, "again") == ["a2"]
    queue.tick(1.0)
    assert queue.withdraw("a2") == ["a1"]


# -- locks and pools -------------------------------------------------------------------------------


def test_of_one_owner_one_job_with_a_lock_runs():
    """Two backups of the same database would run at once; or those of two users would not."""
    queue = JobQueue(9)
    assert queue.admit(job("a1", lock="db")) == ["a1"]
    assert queue.admit(job("a2", lock="db")) == []
    assert queue.admit(job("a3", lock="other")) == ["a3"]
    assert queue.admit(job("b1", lock="db")) == ["b1"]
    assert queue.admit(job("a4")) == ["a4"]
    assert queue.withdraw("a1") == ["a2"]


def test_named_units_are_given_out_once():
    """Two jobs would use the same GPU."""
    queue = JobQueue(9, pools=[GPUS, Pool("license", 2)])
    queue.admit(job("a1", needs={"gpu": 2, "license": 1}))
    queue.admit(job("a2", needs={"gpu": 1}))
    assert queue.units("a1") == {"gpu": ("0", "1"), "license": 1}
    assert queue.units("a2") == {"gpu": ("2",)}
    queue.withdraw("a1")
    queue.admit(job("a3", needs={"gpu": 3}))
    assert queue.units("a3") == {"gpu": ("0", "1", "3")}
    assert queue.admit(job("a4", needs={"license": 2})) == ["a4"]


def test_more_than_there_is_can_be_refused():
    """A job would wait for ever for a fifth GPU."""
    queue = JobQueue(9, pools=[GPUS])
    assert queue.impossible({"gpu": 5}) == [("gpu", "asks for 5 units, and the server has 4")]
    assert queue.impossible({"fpga": 1}) == [("fpga", "no such pool; known are gpu")]
    assert queue.impossible({"gpu": 4}) == []


def test_fewer_units_after_a_restart_hold_up_only_who_needs_them():
    """A job that was accepted with four GPUs would hold up all others, now that there are two."""
    queue = JobQueue(9, pools=[Pool("gpu", ("0", "1"))])
    queue.occupy(job("a0", needs={"gpu": 1}), {"gpu": ("3",), "gone": 1})
    queue.enqueue(job("a1", needs={"gpu": 3}))
    queue.enqueue(job("a2", needs={"gone": 1}))
    queue.enqueue(job("a3", needs={"gpu": 1}))
    assert queue.ready() == ["a3"]
    assert texts(queue, "a1") == ["waiting for 3 of gpu, of which the server now has 2"]
    assert texts(queue, "a2") == ["waiting for 1 of gone, of which the server now has 0"]
    assert queue.units("a3") == {"gpu": ("0",)}
    assert queue.withdraw("a0") == []
    assert queue.withdraw("a1") == []


def test_a_large_request_is_not_passed_for_ever_by_small_ones():
    """A job for all GPUs would wait as long as anybody submits jobs for one."""
    queue = JobQueue(9, pools=[GPUS])
    for number in range(4):
        queue.admit(job(f"b{number}", needs={"gpu": 1}))
    queue.admit(job("a1", needs={"gpu": 4}))
    queue.admit(job("a2", needs={"gpu": 1}))
    queue.admit(job("b4", needs={"gpu": 1}))
    queue.admit(job("c1", needs={"gpu": 1}))
    assert queue.admit(job("a3")) == ["a3"]
    assert queue.admit(job("c2")) == ["c2"]
    assert queue.withdraw("b0") == []
    assert texts(queue, "c1") == ["waiting for 1 of gpu, kept for a job that has waited longer"]
    assert texts(queue, "a1") == ["waiting for 4 of gpu: 1 of 4 free"]
    assert [queue.withdraw(f"b{number}") for number in (1, 2, 3)] == [[], [], ["a1"]]
    assert sorted(queue.withdraw("a1")) == ["a2", "b4", "c1"]


def test_a_killed_large_request_keeps_nothing():
    """GPUs would stay unused until the server is started again."""
    queue = JobQueue(9, pools=[GPUS])
    queue.admit(job("b0", needs={"gpu": 1}))
    queue.admit(job("a1", needs={"gpu": 4}))
    assert queue.admit(job("c1", needs={"gpu": 1})) == []
    assert queue.withdraw("a1") == ["c1"]
    queue.admit(job("a2", needs={"gpu": 4}))
    queue.admit(job("c2", needs={"gpu": 1}))
    assert queue.update("a2", {"hold": True}, 0) == ["c2"]


@settings(max_examples=25)
@given(st.data())
def test_every_request_is_served_in_the_end(data):
    """Jobs that need two pools would wait for each other, or small ones would pass large ones."""
    queue = JobQueue(data.draw(st.integers(1, 6)), pools=[GPUS, Pool("license", 2)])
    needs = st.sampled_from([{"gpu": 4}, {"gpu": 1}, {"gpu": 2, "license": 2}, {"license": 1}, {}])
    running, waiting, passed = [], {}, {}
    for number in range(30):
        name = f"{data.draw(st.sampled_from('abc'))}{number}"
        waiting[name] = data.draw(needs)
        lock = data.draw(st.sampled_from([None, None, "x"]))
        began = queue.admit(job(name, needs=waiting[name], lock=lock))
        if running and data.draw(st.booleans()):
            began += queue.withdraw(running.pop(0))
        for each in began:
            taken = waiting.pop(each)
            for other, wanted in waiting.items():
                if not set(taken).isdisjoint(wanted):
                    passed[other] = passed.get(other, 0) + 1
        running += began
    while running:
        began = queue.withdraw(running.pop(0))
        running += began
        for each in began:
            del waiting[each]
    assert waiting == {}
    assert max(passed.values(), default=0) <= 30


# -- arrays ----------------------------------------------------------------------------------------


def test_elements_start_in_their_order_and_so_many_at_once():
    """An array of a hundred would take the whole machine although it asks for two at a time."""
    queue = JobQueue(9)
    assert queue.admit(array("a1", 5, parallel=2)) == ["a1:1", "a1:2"]
    assert queue.queued == 3
    assert texts(queue, "a1:3") == ["waiting for other elements of the array: 2 of 2 running"]
    assert texts(queue, "a1:1") == []
    assert queue.admit(job("a2")) == ["a2"]
    assert queue.withdraw("a1:2") == ["a1:3"]
    assert queue.withdraw("a1:4") == []
    assert queue.update("a1", {"parallel": None}, 0) == ["a1:5"]
    assert queue.closed("a1") == []


def test_an_array_is_held_and_dropped_as_one():
    """`kill` of an array would leave elements that start later."""
    queue = JobQueue(2)
    assert queue.admit(array("a1", 1000, hold=True)) == []
    assert queue.queued_of("a") == 1000
    assert queue.update("a1", {"hold": False}, 0) == ["a1:1", "a1:2"]
    assert queue.withdraw("a1") == []
    assert (queue.queued, queue.running) == (0, 2)
    assert queue.withdraw("a1:1") == []


def test_an_element_that_is_attempted_again_comes_before_the_others():
    """The first element would end after all others."""
    queue = JobQueue(1)
    queue.admit(array("a1", 4))
    assert queue.attempt_again("a1:1", 5.0, "again") == ["a1:2"]
    queue.tick(5.0)
    assert queue.withdraw("a1:2") == ["a1:1"]


def test_what_waits_costs_nothing():
    """A server with a hundred thousand waiting jobs would be slow for everybody."""

    def steps(many):
        queue = JobQueue(1, pools=[GPUS])
        queue.admit(job("b0"))
        for number in range(many):
            queue.enqueue(job(f"a{number}", lock=f"l{number % 7}", needs={"gpu": 1 + number % 4}))
        queue.enqueue(array("a", many * 10, lock="x", parallel=1))
        queue.enqueue(job("b1"))
        return counted(lambda: (queue.withdraw("b0"), queue.why_waiting("a:5"), queue.ready()))

    assert steps(2000) < 1.5 * steps(50)


def counted(act):
    """Return how many lines of Python something takes."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return lines


# -- shares ----------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.integers(1, 6),
    st.fixed_dictionaries(
        {"a": st.sampled_from([1.0, 2.0, 0.5]), "b": st.sampled_from([1.0, 3.0])}
    ),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=80),
)
def test_shares_are_fair_within_one_job(slots, shares, steps):
    """A user with twice the share would get a third of the machine, or all of it."""
    queue = JobQueue(slots, shares=shares)
    running, waiting = [], []
    for number, (owner, kind) in enumerate(steps):
        if kind < 4:
            name = f"{owner}{number}"
            (running if queue.admit(job(name)) else waiting).append(name)
        elif running:
            for each in queue.withdraw(running.pop(number % len(running))):
                waiting.remove(each)
                had = {who: sum(run[0] == who for run in running) for who in "abc"}
                for other in {name[0] for name in waiting}:
                    mine, theirs = shares.get(each[0], 1.0), shares.get(other, 1.0)
                    assert had[each[0]] / mine <= had[other] / theirs
                running.append(each)


def test_shares_count_with_a_single_slot_too():
    """On a machine that runs one job at a time, shares would mean nothing."""
    queue = JobQueue(1, shares={"a": 2.0})
    for number in range(40):
        queue.admit(job(f"a{number}"))
        queue.admit(job(f"b{number}"))
    running, order = "a0", []
    for _ in range(30):
        (running,) = queue.withdraw(running)
        order.append(running[0])
    assert (order.count("a"), order.count("b")) == (20, 10)
    assert "aaa" not in "".join(order)


@pytest.mark.parametrize("many", [1, 1000])
def test_a_timer_that_is_set_again_is_due_once(many):
    """A job would start at a time that its owner has changed, or memory would grow."""
    timers = Timers()
    for at in range(many):
        timers.set("a", 100.0 - at / many)
    timers.set("a", 7.0)
    timers.set("b", 5.0)
    assert len(timers._heap) < 110
    assert timers.next() == 5.0
    timers.clear("b")
    assert timers.next() == 7.0
    assert timers.due(6.0) == []
    assert timers.due(1000.0) == ["a"]
    assert timers.next() is None
