"""Who is next: first come, first served for each user, fair turns between users."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from worker_core.queue.job_queue import JobQueue
from worker_core.queue.waiting import Waiting


def admit(queue, *jobs):
    """Admit jobs named by their owner's letter and a number; return which of them start."""
    return [queue.admit(Waiting(job, job[0])) == [job] for job in jobs]


def test_jobs_run_as_long_as_there_are_slots():
    """A machine would idle, or be overrun."""
    queue = JobQueue(2)
    assert admit(queue, "a1", "a2", "a3") == [True, True, False]
    assert queue.why_waiting("a3") == "waiting for a free slot: 2 of 2 running"
    assert queue.withdraw("a1") == ["a3"]
    assert queue.why_waiting("a3") is None


def test_no_bound_is_no_bound():
    """0 would mean that nothing runs."""
    assert all(admit(JobQueue(0), *(f"a{n}" for n in range(1000))))


def test_users_take_turns_and_each_keeps_the_order():
    """Who submits a thousand jobs would make everybody else wait for them."""
    queue = JobQueue(1)
    admit(queue, "a0", "a1", "a2", "a3", "b1", "b2", "c1")
    order, running = [], "a0"
    while ready := queue.withdraw(running):
        (running,) = ready
        order.append(running)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_turn_is_of_who_has_least_running():
    """A user with many running jobs would get the next slot too."""
    queue = JobQueue(3)
    admit(queue, "a1", "a2", "b1", "a3", "b2")
    assert queue.withdraw("a1") == ["a3"]  # one each: the one who waits longest
    queue = JobQueue(4)
    admit(queue, "a1", "a2", "a3", "b1", "a4", "b2")
    assert queue.withdraw("a1") == ["b2"]


def test_a_waiting_job_can_be_withdrawn():
    """A killed job would be started."""
    queue = JobQueue(1)
    admit(queue, "a1", "a2", "a3")
    assert queue.withdraw("a2") == []
    assert queue.withdraw("a1") == ["a3"]
    assert queue.withdraw("unknown") == []


def test_a_bound_of_one_user_holds_nobody_else_up():
    """A user at the bound would block the queue."""
    queue = JobQueue(3, max_running_per_owner=1)
    assert admit(queue, "a1", "a2", "b1", "a3") == [True, False, True, False]
    assert queue.why_waiting("a2") == "waiting for a free slot of a: 1 of 1 running"
    assert queue.why_waiting("a3").endswith("a: 1 of 1 running")
    assert queue.withdraw("b1") == []
    assert queue.withdraw("a1") == ["a2"]


def test_those_ahead_are_told():
    """A user would not know why a later job does not move."""
    queue = JobQueue(1)
    admit(queue, "a1", "a2", "a3")
    assert queue.why_waiting("a3").endswith("; 1 of a's jobs is ahead of it")


def test_every_place_in_a_long_queue_is_told():
    """The owner of a thousand jobs would not see them move."""
    queue = JobQueue(1)
    admit(queue, *(f"a{n}" for n in range(5000)))
    assert queue.why_waiting("a1001").endswith("; 1000 of a's jobs are ahead of it")
    assert queue.why_waiting("a4999").endswith("; 4998 of a's jobs are ahead of it")


def test_who_waits_for_nothing_is_about_to_start():
    """After a restart a job would be said to wait for a slot of 0 of 0."""
    queue = JobQueue(1)
    queue.enqueue(Waiting("a1", "a"))
    assert queue.why_waiting("a1") == "about to start"
    assert queue.ready() == ["a1"]


@given(
    st.integers(1, 4),
    st.integers(0, 2),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60),
)
def test_no_slot_is_empty_while_a_job_could_use_it(slots, own, steps):
    """A job would wait for ever beside a free slot, or more would run than allowed."""
    queue = JobQueue(slots, own)
    running, waiting, number = [], [], 0

    def began(ids):
        for job in ids:
            assert job == next(each for each in waiting if each[0] == job[0])
            waiting.remove(job)
            running.append(job)

    for owner, submit in steps:
        if submit or not running:
            number += 1
            job = f"{owner}{number}"
            (running if queue.admit(Waiting(job, owner)) else waiting).append(job)
        else:
            began(queue.withdraw(running.pop(0)))
        counts = Counter(job[0] for job in running)
        assert len(running) == queue.running <= slots
        assert not own or max(counts.values(), default=0) <= own
        eligible = [job for job in waiting if not own or counts[job[0]] < own]
        assert not eligible or len(running) == slots
        assert queue.queued == len(waiting)


STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), max_size=80)


@given(st.integers(1, 4), STEPS)
def test_a_slot_goes_to_who_has_fewest(slots, steps):
    """A user with many jobs would get the next slot too, while others wait with less."""
    queue = JobQueue(slots)
    running, waiting = [], []
    for number, (owner, kind) in enumerate(steps):
        if kind < 4:
            job = f"{owner}{number}"
            (running if queue.admit(Waiting(job, owner)) else waiting).append(job)
        elif running:
            gone = running.pop(number % len(running))
            had = Counter(job[0] for job in running)
            for started in queue.withdraw(gone):
                assert all(had[started[0]] <= had[job[0]] for job in waiting)
                waiting.remove(started)
                running.append(started)
                had[started[0]] += 1


@given(STEPS)
def test_nobody_gets_a_second_turn_while_another_waits(steps):
    """A user whose jobs are short would starve everybody else."""
    queue = JobQueue(1)
    running, waiting, passed = None, [], Counter()  # who was passed by whom how often
    for number, (owner, kind) in enumerate(steps):
        if kind < 4:
            job = f"{owner}{number}"
            if queue.admit(Waiting(job, owner)):
                running = job
            else:
                waiting.append(job)
        elif running is not None:
            (running,) = queue.withdraw(running) or (None,)
            if running is None:
                assert not waiting
                continue
            waiting.remove(running)
            for other in {job[0] for job in waiting} - {running[0]}:
                passed[other, running[0]] += 1
                assert passed[other, running[0]] <= 1
            for pair in [pair for pair in passed if pair[0] == running[0]]:
                del passed[pair]


def test_the_last_slots_are_for_who_has_none():
    """One user whose jobs run for weeks in all slots would keep everybody else out."""
    queue = JobQueue(32)
    assert admit(queue, *(f"a{n}" for n in range(40))).count(True) == 30
    assert queue.why_waiting("a39") == (
        "waiting for a free slot: 30 of 32 running, and the last 2 are kept for users without a "
        "running job"
    )
    assert admit(queue, "b1", "b2", "c1", "d1") == [True, False, True, False]
    assert queue.why_waiting("d1") == "waiting for a free slot: 32 of 32 running"
    assert queue.withdraw("a0") == ["d1"]
    assert queue.withdraw("a1") == queue.withdraw("a2") == []
    assert queue.withdraw("a3") == ["b2"]
    assert JobQueue(16).kept == 1
    assert JobQueue(15).kept == JobQueue(0).kept == 0
