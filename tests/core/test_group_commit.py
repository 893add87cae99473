"""Group commit: one transaction for all that wait, in order, and writes that must succeed."""

import concurrent.futures
import contextlib
import sys
import threading

import pytest
from support.waiting import wait_until
from worker_core.model.errors import EngineClosed, JobNotFound, StoreUnavailable
from worker_core.store.group_commit import GroupCommit


class DiskError(Exception):
    """What the fake database raises."""


class Transactions:
    """A database in memory: `stored` is what was committed, each transaction a list."""

    failures = (DiskError,)

    def __init__(self):
        self.stored = []
        self.fault = None
        self._current = []

    def begin(self):
        self._current = []
        return self._current

    def commit(self):
        if self.fault is not None:
            raise DiskError(self.fault)
        self.stored.append(self._current)

    def roll_back(self):
        self._current = []

    def is_full(self, error):
        return "full" in str(error)

    def describe(self, error):
        return f"{error}; do something" if self.is_full(error) else str(error)


@pytest.fixture
def database():
    return Transactions()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Retry at once."""
    monkeypatch.setattr("worker_core.store.group_commit._RETRY_SECONDS", 0.01)


@pytest.fixture
def commits(database):
    commits = GroupCommit(database)
    yield commits
    commits.close()


def add(what):
    """Return a write that stores something and returns it."""

    def run(transaction):
        transaction.append(what)
        return what

    return run


def flat(database):
    return [what for transaction in database.stored for what in transaction]


@contextlib.contextmanager
def busy(commits):
    """Keep the writer thread in a write for as long as this block takes."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        assert go_on.wait(10)

    write = commits.write(wait)
    assert begun.wait(10)
    try:
        yield
    finally:
        go_on.set()
        write.result()


def test_many_writes_share_a_commit_and_keep_their_order(commits, database):
    """A thousand jobs would cost a thousand flushes of the disk, or end before they began."""
    followed = []
    with busy(commits):
        writes = [commits.write(add(number), followed.append) for number in range(100)]
    assert [write.result() for write in writes] == list(range(100)) == followed
    assert database.stored[1:] == [list(range(100))]


def test_what_follows_a_write_is_called_before_its_caller_goes_on(commits, database):
    """A caller would find its job accepted, but not sent to the supervisor."""
    followed = []
    for number in range(50):
        commits.write(add(number), followed.append).result()
        assert followed[-1] == number
        assert database.stored[-1] == [number]


def test_result_can_be_asked_for_again(commits):
    """A caller that was interrupted while it waited would wait for ever the second time."""
    write = commits.write(add("a"))
    assert write.result() == "a"
    assert write.result() == "a"


def test_a_caller_may_be_interrupted_while_it_waits(commits, database, monkeypatch):
    """Ctrl-C in a program that uses the library would stop all writing for ever."""

    class Interrupted:
        def __enter__(self):
            raise KeyboardInterrupt

        def __exit__(self, *_):
            raise AssertionError

        def release(self):
            """As the writer thread does."""

    with busy(commits):
        write = commits.write(add("a"))
        monkeypatch.setattr(write, "_pending", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            write.result()
    commits.write(add("b")).result()
    assert flat(database) == ["a", "b"]


def in_thread(work):
    """Return what a function returns in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(30)


def where(_):
    return threading.current_thread().name


def test_a_caller_commits_its_own_write_if_nothing_else_is_pending(commits):
    """Each job would cost two changes of threads more."""
    names = []
    name, own = in_thread(lambda: (commits.write(where, names.append).result(), where(None)))
    assert [name] == names == [own]


def test_a_caller_commits_nothing_for_others(commits, database):
    """A request would wait until the writes of all others are done, or overtake them."""
    names = []

    def pending():
        first, second = commits.write(where, names.append), commits.write(where, names.append)
        return second.result(), first.result()

    assert in_thread(pending) == ("worker-store", "worker-store") == tuple(names)

    def behind_a_retry():
        database.fault = "full"
        commits.post((where, names.append))
        with pytest.raises(StoreUnavailable):
            commits.write(where).result()
        database.fault = None
        return commits.write(where, names.append).result()

    in_thread(behind_a_retry)
    wait_until(lambda: len(names) == 4)


def test_writes_that_come_while_a_caller_commits_follow_in_order(commits, database):
    """A write would stay pending until the next one, or two transactions would run at once."""
    begun, go_on = threading.Event(), threading.Event()

    def first(transaction):
        begun.set()
        assert go_on.wait(10)
        return add("first")(transaction)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = pool.submit(lambda: commits.write(first).result())
        assert begun.wait(10)
        commits.post((add("second"), None))
        last = pool.submit(lambda: commits.write(add("last")).result())
        wait_until(lambda: len(commits._pending) == 2)
        go_on.set()
        assert (running.result(10), last.result(10)) == ("first", "last")
    assert flat(database) == ["first", "second", "last"]


def test_a_caller_that_may_be_stopped_midway_does_not_commit(commits):
    """Ctrl-C, or the limit on recursion, would separate a job's record from its start."""

    def deep(frames):
        return deep(frames - 1) if frames else commits.write(where).result()

    assert commits.write(where).result() == "worker-store"
    assert in_thread(lambda: deep(sys.getrecursionlimit() - 150)) == "worker-store"


def test_a_write_for_the_writer_needs_no_caller(commits, database):
    """A request about the health of a server whose disk hangs would hang as well."""
    in_thread(lambda: commits.write(add("a"), in_writer=True).wait(10))
    assert flat(database) == ["a"]


def test_one_bad_write_fails_alone(commits, database):
    """One user's mistake would refuse the jobs of all others in the same commit."""

    def fails(transaction):
        transaction.append("half")
        raise DiskError("NOT NULL")

    def missing(_):
        raise JobNotFound("none")

    with busy(commits):
        first, bad = commits.write(add("a")), commits.write(fails)
        unknown, last = commits.write(missing), commits.write(add("b"))
    with pytest.raises(StoreUnavailable, match="cannot store: NOT NULL"):
        bad.result()
    with pytest.raises(JobNotFound):
        unknown.result()
    assert first.result() == "a"
    assert last.result() == "b"
    assert flat(database) == ["a", "b"]


def test_an_error_names_the_cure(commits, database):
    """A user would know that the disk is full, and not what to do."""
    database.fault = "disk full"
    with pytest.raises(StoreUnavailable, match="cannot store: disk full; do something"):
        commits.write(add("a")).result()


def test_a_write_that_must_succeed_is_tried_again_in_its_order(commits, database, caplog):
    """While the disk is full the end of a job would be lost, or come before its start."""
    tried = threading.Semaphore(0)

    def first(transaction):
        tried.release()
        return add("first")(transaction)

    database.fault = "I/O error"
    commits.post((first, None))
    with pytest.raises(StoreUnavailable, match="I/O error"):
        commits.write(add("refused")).result()
    commits.post((add("second"), None))
    for _ in range(8):
        assert tried.acquire(timeout=10)
    assert commits.fault == "I/O error"
    assert len(caplog.records) == 1, "a reason is logged once, not with each attempt"
    database.fault = None
    wait_until(lambda: flat(database) == ["first", "second"])
    assert commits.fault is None


def test_writes_of_callers_go_on_while_another_is_tried_again(commits, database):
    """One record that cannot be stored yet would hold up all jobs."""
    working = [False]

    def stubborn(transaction):
        if not working[0]:
            raise DiskError("not yet")
        transaction.append("stubborn")

    commits.post((stubborn, None), (add("behind it"), None))
    assert commits.write(add("a")).result() == "a"
    working[0] = True
    wait_until(lambda: flat(database) == ["a", "stubborn", "behind it"])


def test_a_faulty_write_that_must_succeed_is_dropped(commits, database, caplog):
    """A fault of the program would be tried again for ever, and hold up all ends of jobs."""
    commits.post((lambda _: 1 / 0, None), (add("a"), None))
    wait_until(lambda: flat(database) == ["a"])
    assert "division by zero" in caplog.text


@pytest.mark.parametrize(
    ("urgent", "fault", "expected"),
    [(True, "disk full", True), (False, "disk full", False), (True, "I/O error", False)],
)
def test_only_an_urgent_write_takes_the_reserve_of_a_full_disk(database, urgent, fault, expected):
    """Ends of jobs would find no space, or others would use up what is kept for them."""
    called = threading.Event()
    commits = GroupCommit(database, on_full=called.set)
    database.fault = fault
    commits.post((add("a"), None), urgent=urgent)
    for _ in range(3):  # the write was tried before these
        with pytest.raises(StoreUnavailable):
            commits.write(add("b")).result()
    assert called.is_set() is expected
    database.fault = None
    commits.close()


def test_what_follows_a_write_cannot_stop_the_thread(commits, database, caplog):
    """A fault in a listener would end all writing."""
    assert commits.write(add("a"), lambda _: 1 / 0).result() == "a"
    assert commits.write(add("b")).result() == "b"
    assert "what follows a write failed" in caplog.text


def test_what_follows_a_write_may_post(commits, database):
    """The next job could not be started when one has ended."""
    commits.write(add("a"), lambda _: commits.post((add("b"), None))).result()
    commits.write(add("c")).result()
    assert flat(database) == ["a", "b", "c"]


def test_closing_finishes_what_was_asked_for(database, caplog):
    """A request during the end of the daemon would wait for ever."""
    commits = GroupCommit(database)
    with busy(commits):
        write = commits.write(add("a"))
        commits.post((add("b"), None))
        closing = threading.Thread(target=commits.close)
        closing.start()
        wait_until(lambda: commits._closed)
        with pytest.raises(EngineClosed):
            commits.write(add("late"))
        commits.post((add("late"), None))
    assert write.result() == "a"
    closing.join(10)
    assert not closing.is_alive()
    assert flat(database) == ["a", "b"]
    commits.close()
    assert caplog.text == ""


def test_closing_does_not_wait_for_a_disk_that_stays_broken(database, caplog):
    """The daemon would not end while its disk is full."""
    commits = GroupCommit(database)
    database.fault = "disk full"
    commits.post((add("a"), None), (add("b"), None))
    commits.close()
    assert "2 writes were not stored: disk full" in caplog.text


def test_many_callers_at_once(commits, database):
    """Writes of threads that come at the same moment would be lost or done twice."""

    def work(thread):
        for number in range(50):
            assert commits.write(add((thread, number))).result() == (thread, number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(flat(database)) == [
        (thread, number) for thread in range(8) for number in range(50)
    ]
    for thread in range(8):
        assert [number for whose, number in flat(database) if whose == thread] == list(range(50))
