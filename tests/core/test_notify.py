"""Which threads a change of a job wakes, and how often the store is read for that."""

import contextlib
import threading

import pytest
from support.core import run, shell
from support.waiting import wait_until
from worker_core import Engine, JobSpec
from worker_core.engine import feed
from worker_core.model.job import Job
from worker_core.model.state import State
from worker_core.notify import Cancellation, Notifier
from worker_core.store import records


def job(job_id="a", owner="me", version=1):
    return Job(job_id, owner, JobSpec("true"), State.RUNNING, created_at=1.0, version=version)


@pytest.fixture
def readings(monkeypatch):
    """The owner of each reading of changes from the database."""
    seen = []
    monkeypatch.setattr(feed, "_SECONDS", 3600.0)  # by itself a feed looks every few seconds
    whole = records.changed

    def changed(db, owner, version, limit):
        seen.append(owner)
        return whole(db, owner, version, limit)

    monkeypatch.setattr(records, "changed", changed)
    return seen


def test_only_the_listeners_of_the_job_and_of_its_owner_are_woken():
    """Every change of a job would wake every event stream of the server."""
    notifier = Notifier()
    with (
        notifier.job_changes("a") as same_job,
        notifier.job_changes("b") as other_job,
        notifier.owner_changes("me") as owner,
        notifier.owner_changes("you") as other_owner,
    ):
        notifier.publish(job())
        assert same_job.wait(1)
        assert owner.wait(1)
        assert not other_job.wait(0.001)
        assert not other_owner.wait(0.001)
        assert (notifier.change_count("me"), notifier.change_count("you")) == (1, 0)


def test_a_job_named_like_an_owner_is_not_mixed_up_with_it():
    """Somebody whose name is the id of a job would be woken by that job."""
    notifier = Notifier()
    with notifier.owner_changes("a") as owner, notifier.job_changes("me") as waiting:
        notifier.publish(job("a", "me"))
        assert not owner.wait(0.001)
        assert not waiting.wait(0.001)


def test_a_crowd_is_woken_whole():
    """Of many threads that wait for one job, some would wait for ever."""
    notifier = Notifier()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(notifier.job_changes("a")) for _ in range(50)]
        notifier.publish(job())
        assert all(subscription.wait(10) for subscription in crowd)
        notifier.publish(job())
        assert all(subscription.wait(10) for subscription in crowd)
        notifier.close()
        assert all(subscription.wait(10) for subscription in crowd)


def test_a_crowd_is_woken_also_without_a_thread_for_it(monkeypatch):
    """At the limit on threads, no waiting request would learn of a job's end."""

    def start(_thread):
        raise RuntimeError("can't start new thread")

    notifier = Notifier()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(notifier.job_changes("a")) for _ in range(50)]
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            notifier.publish(job())
        assert all(subscription.wait(10) for subscription in crowd)


def test_a_change_of_others_reads_nothing(tmp_path, readings):
    """With 200 streams of other users the server ran 25 jobs a second instead of 646."""
    with Engine(tmp_path) as engine, contextlib.ExitStack() as stack:
        for n in range(20):
            listen(stack, engine, f"other{n}", [])
        wait_until(lambda: len(readings) == 20)
        for _ in range(5):
            run(engine, shell("true"))
        assert readings.count("me") == 0
        assert len(readings) == 20


def test_streams_of_one_owner_share_each_reading(tmp_path, readings):
    """With 200 streams of one user the server ran 7 jobs a second instead of 646."""
    with Engine(tmp_path) as engine, contextlib.ExitStack() as stack:
        seen = [[] for _ in range(20)]
        for each in seen:
            listen(stack, engine, "me", each)
        wait_until(
            lambda: engine._jobs.notifier._groups[("owner", "me")].subscriptions.__len__() == 20
        )
        readings.clear()
        jobs = [run(engine, shell("true")).id for _ in range(5)]
        for each in seen:
            wait_until(lambda each=each: {j.id for j in each if j.state.final} == set(jobs))
        # A job has three changes; a reading may be one too many, and is not one for each stream.
        assert len(readings) <= 2 * 3 * len(jobs)


def test_nothing_is_missed_behind_what_is_kept_in_memory(tmp_path, monkeypatch):
    """A stream that is far behind would miss events."""
    monkeypatch.setattr(feed, "_KEPT", 2)
    monkeypatch.setattr(feed, "_LOT", 1)
    with Engine(tmp_path) as engine, contextlib.ExitStack() as stack:
        listen(stack, engine, "me", [])
        jobs = [run(engine, shell("true")).id for _ in range(6)]
        late = []
        listen(stack, engine, "me", late, after=0)
        wait_until(lambda: [j.id for j in late if j.state.final] == jobs)
        versions = [j.version for j in late]
        assert versions == sorted(versions)


def test_a_job_that_only_waits_is_an_event(tmp_path):
    """A program that shows the queue would not learn of a job before it starts."""
    from worker_core import EngineSettings

    settings = EngineSettings(max_running=1)
    with Engine(tmp_path, settings=settings) as engine, contextlib.ExitStack() as stack:
        first = engine.submit(JobSpec("sleep", ["600"]), "me")
        seen = []
        listen(stack, engine, "me", seen)
        wait_until(lambda: engine._jobs.notifier._groups)
        second = engine.submit(JobSpec("true"), "me")
        wait_until(lambda: [j.id for j in seen if j.state is State.QUEUED] == [second.id])
        engine.kill(second.id, now=True)
        engine.kill(first.id, now=True)


def listen(stack, engine, owner, seen, after=None):
    """Add what a stream of an owner gets to `seen`, in a thread, until the engine is closed."""
    over = threading.Event()

    def work():
        for jobs in engine.changes(owner, after, heartbeat=0.2):
            seen.extend(jobs)
            if over.is_set():
                return

    thread = threading.Thread(target=work)
    thread.start()
    stack.callback(thread.join)
    stack.callback(over.set)


def test_a_wait_ends_when_it_is_cancelled(tmp_path):
    """A request whose client has left would keep its thread until the job ends."""
    with Engine(tmp_path) as engine:
        job = engine.submit(JobSpec("sleep", ["600"]), "me")
        cancel, seen = Cancellation(), []
        thread = threading.Thread(target=lambda: seen.append(engine.wait(job.id, cancel=cancel)))
        thread.start()
        wait_until(lambda: engine._jobs.notifier._groups)
        cancel.request()
        thread.join(20)
        assert [each.id for each in seen] == [job.id]
        assert not seen[0].state.final
        assert not engine.wait(job.id, cancel=cancel).state.final, "a later wait ends at once"
        engine.kill(job.id, now=True)
        assert engine.wait(job.id, 20, cancel=Cancellation()).state is State.KILLED
