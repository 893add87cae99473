"""All rules of the queue together, against a plain model of them: what starts, what waits and why.

Each example takes milliseconds. A longer run: QUEUE_EXAMPLES=5000 python -m pytest tests/core/queue
"""

import os
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from worker_core.model.state import State
from worker_core.model.waiting.after import When
from worker_core.model.waiting.array import joined
from worker_core.model.waiting.retry import RETRIED, RetryPolicy
from worker_core.queue import dependencies, retries
from worker_core.queue.arrays import Indices
from worker_core.queue.dependencies import Edge, Parent, Verdict
from worker_core.queue.gates import Gate
from worker_core.queue.job_queue import JobQueue
from worker_core.queue.resources import Pool
from worker_core.queue.waiting import Waiting

SLOTS, OWN = 4, 3
POOLS = {"gpu": ("0", "1", "2"), "license": 2}
TOTAL = {"gpu": 3, "license": 2}
ENDS = (State.COMPLETED, State.FAILED, State.KILLED, State.LOST)
Q, R = State.QUEUED, State.RUNNING
EMPTY = Counter()


class Job:
    """What the model knows of a job, or of one element of an array."""

    def __init__(self, job_id, owner, number, **wishes):
        self.id, self.owner, self.number = job_id, owner, number
        self.state, self.started, self.attempt = Q, False, 1
        self.priority = wishes.get("priority", 0)
        self.hold = wishes.get("hold", False)
        self.start_after = wishes.get("start_after")
        self.retry_at = None
        self.policy = wishes.get("policy")
        self.lock = wishes.get("lock")
        self.needs = wishes.get("needs", {})
        self.array, self.parallel = wishes.get("array"), wishes.get("parallel")
        self.edges = wishes.get("edges", set())  # not fulfilled: (parent, when)
        self.units = {}


class Rules(RuleBasedStateMachine):
    """Owners a, b and c submit and change jobs, jobs end, and the engine crashes in between."""

    def __init__(self):
        super().__init__()
        self.now, self.count = 0.0, 0
        self.jobs = {}  # in the order in which they came
        self.arrays = {}  # id -> its jobs
        self.queue = self.fresh()

    def fresh(self):
        pools = [Pool(name, units) for name, units in POOLS.items()]
        return JobQueue(SLOTS, OWN, shares={"a": 2.0}, pools=pools)

    # -- what the model says -----------------------------------------------------------------------

    def having(self, *states):
        return [job for job in self.jobs.values() if job.state in states]

    def parent(self, job_id):
        """Return what a job, or an array, has come to."""
        if job_id in self.arrays:
            elements = self.arrays[job_id]
            ended = all(each.state.final for each in elements)
            good = all(each.state is State.COMPLETED for each in elements)
            started = any(each.started for each in elements)
            state = Q if not started else R
            if ended:
                state = State.COMPLETED if good else State.FAILED
                state = state if started else State.SKIPPED
            return Parent(job_id, state, started)
        job = self.jobs[job_id]
        return Parent(job_id, job.state, job.started)

    def closed(self, job):
        """Return which gates are closed for a waiting job."""
        running = self.having(R)
        taken = sum((Counter(each.needs) for each in running), EMPTY)
        alike = [each for each in running if each.array == job.array]
        answers = {
            Gate.HOLD: job.hold,
            Gate.TIME: job.start_after is not None and job.start_after > self.now,
            Gate.RETRY: job.retry_at is not None and job.retry_at > self.now,
            Gate.DEPENDENCY: any(
                dependencies.verdict(when, self.parent(parent)) is not Verdict.OPEN
                for parent, when in job.edges
            ),
            Gate.ARRAY: job.parallel is not None and len(alike) >= job.parallel,
            Gate.LOCK: job.lock is not None
            and any((each.owner, each.lock) == (job.owner, job.lock) for each in running),
            Gate.RESOURCE: any(TOTAL[n] - taken[n] < needed for n, needed in job.needs.items()),
            Gate.TURN: sum(each.owner == job.owner for each in running) >= OWN,
            Gate.SLOTS: len(running) >= SLOTS,
        }
        return {gate for gate, is_closed in answers.items() if is_closed}

    # -- what follows ------------------------------------------------------------------------------

    def begin(self, started):
        """Check each job that starts, and let those that wait for its start go on."""
        while started:
            later = []
            for job_id in started:
                job = self.jobs[job_id]
                assert job.state is Q
                assert self.closed(job) == set()
                job.state, job.started, job.retry_at = R, True, None
                job.units = dict(self.queue.units(job_id))
                self.follows(job_id)
                later += self.follows(job.array)
            started = later + self.queue.ready()

    def follows(self, job_id):
        """Open and skip what waits for a job or an array; return nothing to start yet."""
        if job_id is None:
            return []
        waiting = self.having(Q)

        def waiting_for(parent):
            skipped = parent != job_id  # and its elements with it, if it is an array
            parts = {job.id for job in self.arrays.get(parent, ())} if skipped else set()
            return [
                Edge(self.entry(job), each, when)
                for job in waiting
                for each, when in job.edges
                if each == parent or each in parts
            ]

        found = dependencies.consequences(self.parent(job_id), waiting_for)
        for edge in found.opened:
            for job in self.of_entry(edge.child):
                job.edges = job.edges - {(edge.parent, edge.when)}
            self.queue.fulfil(edge.child, edge.parent, edge.when)
        started = []
        for child in found.skipped:
            for job in self.of_entry(child):
                job.state = State.SKIPPED
            started += self.queue.withdraw(child)
        return started

    @staticmethod
    def entry(job):
        return job.array or job.id

    def of_entry(self, entry):
        return [job for job in self.arrays.get(entry, [self.jobs.get(entry)]) if job.state is Q]

    def end(self, job, state):
        """End a running or waiting job as the engine does."""
        was_running = job.state is R
        if was_running and job.policy is not None and state is not State.KILLED:
            attempt = retries.Attempt(job.attempt, state, 1)
            at = retries.next_time(job.policy, attempt, self.now, 0.5)
            if at is not None:
                job.state, job.retry_at, job.attempt = Q, at, job.attempt + 1
                self.begin(self.queue.attempt_again(job.id, at, "again"))
                return
        job.state, job.units = state, {}
        started = self.queue.withdraw(job.id)
        started += self.follows(job.id)
        started += self.follows(job.array)
        self.begin(started + self.queue.ready())

    def submit(self, owner, edges=(), *, size=None, **wishes):
        self.count += 1
        name = f"{owner}{self.count}"
        answers = [dependencies.verdict(when, self.parent(each)) for each, when in edges]
        edges = {edge for edge, each in zip(edges, answers, strict=True) if each is Verdict.WAITS}
        wishes |= {"edges": edges, "array": name if size else None}
        names = [f"{name}:{index}" for index in range(1, size + 1)] if size else [name]
        made = [Job(each, owner, self.count, **wishes) for each in names]
        self.jobs |= {job.id: job for job in made}
        if size:
            self.arrays[name] = made
        if Verdict.NEVER in answers:
            for job in made:
                job.state = State.SKIPPED
            return
        waiting = self.waiting(name, made[0], Indices([range(1, size + 1)]) if size else None)
        would = not size and self.queue.would_start(waiting, self.now)
        started = self.queue.admit(waiting, self.now)
        assert not would or started == [name]
        self.begin(started)

    def waiting(self, entry, job, elements=None):
        return Waiting(
            entry,
            job.owner,
            priority=job.priority,
            hold=job.hold,
            start_after=job.start_after,
            after=set(job.edges),
            retry_at=job.retry_at,
            retry_text="again",
            array=job.array if elements is None else None,
            parallel=job.parallel,
            elements=elements,
            lock=job.lock,
            needs=job.needs,
            number=job.number,
            **({"index": int(entry.partition(":")[2])} if ":" in entry else {}),
        )

    # -- rules -------------------------------------------------------------------------------------

    @rule(
        owner=st.sampled_from("abc"),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        hold=st.sampled_from([False, False, False, True]),
        delay=st.sampled_from([None, None, None, 5.0]),
        lock=st.sampled_from([None, None, "x", "y"]),
        needs=st.sampled_from(
            [{}, {}, {"gpu": 1}, {"gpu": 3}, {"gpu": 2, "license": 2}, {"license": 1}]
        ),
        most=st.sampled_from([None, None, 2]),
        size=st.sampled_from([None, None, None, 1, 5]),
        parallel=st.sampled_from([None, 2]),
        data=st.data(),
    )
    def submit_any(self, owner, priority, hold, delay, lock, needs, most, size, parallel, data):
        edges = ()
        own = [each for each in (*self.jobs, *self.arrays) if each[0] == owner]
        if own:
            edge = st.tuples(st.sampled_from(own), st.sampled_from(When))
            edges = data.draw(st.sets(edge, max_size=2))
        self.submit(
            owner,
            sorted(edges, key=str),
            size=size,
            priority=priority,
            hold=hold,
            start_after=None if delay is None else self.now + delay,
            lock=lock,
            needs=needs,
            policy=None if most is None else RetryPolicy(most, 4, on=RETRIED),
            parallel=parallel if size else None,
        )

    @precondition(lambda self: self.having(R))
    @rule(data=st.data(), state=st.sampled_from(ENDS))
    def finish(self, data, state):
        job = data.draw(st.sampled_from(self.having(R)), label="job")
        self.end(job, state)

    @precondition(lambda self: self.having(Q))
    @rule(data=st.data())
    def kill(self, data):
        self.end(data.draw(st.sampled_from(self.having(Q))), State.KILLED)

    @precondition(lambda self: self.having(Q))
    @rule(data=st.data(), hold=st.booleans(), priority=st.integers(-1, 1))
    def change(self, data, hold, priority):
        entry = self.entry(data.draw(st.sampled_from(self.having(Q))))
        if any(job.attempt > 1 for job in self.of_entry(entry) if entry in self.arrays):
            return  # an element that is attempted again is changed by itself
        for job in self.of_entry(entry):
            job.hold, job.priority = hold, priority
        changes = {"hold": hold, "priority": priority}
        self.begin(self.queue.update(entry, changes, self.now))

    @precondition(lambda self: self.arrays)
    @rule(data=st.data(), parallel=st.sampled_from([None, 1, 4]))
    def change_parallel(self, data, parallel):
        array = data.draw(st.sampled_from(sorted(self.arrays)))
        for job in self.arrays[array]:
            job.parallel = parallel
        self.begin(self.queue.update(array, {"parallel": parallel}, self.now))

    @precondition(lambda self: self.queue.next_time() is not None)
    @rule(by=st.floats(0, 10))
    def let_time_pass(self, by):
        self.now += by
        self.begin(self.queue.tick(self.now))

    @precondition(lambda self: any(job.retry_at is not None for job in self.having(Q)))
    @rule(data=st.data())
    def attempt_now(self, data):
        again = [job for job in self.having(Q) if job.retry_at is not None]
        job = data.draw(st.sampled_from(again))
        job.retry_at = None
        self.begin(self.queue.attempt_now(job.id))

    @rule()
    def crash(self):
        """A new engine knows only what was recorded."""
        self.queue = self.fresh()
        for job in self.having(R):
            self.queue.occupy(self.waiting(job.id, job), job.units)
        for entry in dict.fromkeys(map(self.entry, self.having(Q))):
            jobs = self.of_entry(entry)
            if entry in self.arrays:
                first = [int(job.id.partition(":")[2]) for job in jobs if job.attempt == 1]
                if first:
                    job = self.jobs[f"{entry}:{first[0]}"]
                    self.queue.enqueue(self.waiting(entry, job, Indices(joined(first))), self.now)
                jobs = [job for job in jobs if job.attempt > 1]
            for job in jobs:
                self.queue.enqueue(self.waiting(job.id, job), self.now)
        self.begin(self.queue.ready())

    # -- what always holds -------------------------------------------------------------------------

    @invariant()
    def every_closed_gate_is_shown(self):
        for job in self.having(Q):
            shown = {each.gate for each in self.queue.closed(job.id)}
            expected = self.closed(job)
            assert shown, f"{job.id} waits for nothing"
            # A free unit may be kept for a job that has waited longer.
            assert shown - {Gate.RESOURCE} == expected - {Gate.RESOURCE}
            assert Gate.RESOURCE in shown or Gate.RESOURCE not in expected
            assert self.queue.why_waiting(job.id)

    @invariant()
    def numbers_are_right(self):
        assert self.queue.queued == len(self.having(Q))
        assert self.queue.running == len(self.having(R))
        assert sum(self.queue.waiting_by_gate().values()) == len(self.having(Q))
        taken = Counter(unit for job in self.having(R) for unit in job.units.get("gpu", ()))
        assert max(taken.values(), default=0) <= 1

    def teardown(self):
        """Once everything is released and what runs ends, no job is left that waits."""
        self.now += 1e6
        for job in self.having(Q):
            job.hold = False
        for entry in dict.fromkeys(job.array or job.id for job in self.having(Q)):
            self.begin(self.queue.update(entry, {"hold": False}, self.now))
        for job in self.having(Q):
            self.begin(self.queue.update(job.id, {"hold": False}, self.now))
        self.begin(self.queue.tick(self.now))
        for _ in range(10 * len(self.jobs) + 10):
            running = self.having(R)
            if not running:
                break
            self.end(running[0], State.COMPLETED)
        left = {job.id: self.queue.closed(job.id) for job in self.having(Q, R)}
        assert left == {}
        assert (self.queue.queued, self.queue.running) == (0, 0)
        left = (self.queue._lines, self.queue._arrays, self.queue._locks, self.queue._waiting)
        assert not any(left)


Rules.TestCase.settings = settings(
    max_examples=int(os.environ.get("QUEUE_EXAMPLES", "20")),
    stateful_step_count=30,
    deadline=None,
    derandomize="QUEUE_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
TestRules = Rules.TestCase
