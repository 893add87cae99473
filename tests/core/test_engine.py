"""The engine as other programs use it."""

import os
import subprocess
import sys
import threading
import uuid

import pytest
import worker_core
from support.core import begin, run, shell, supervisor_pid, wait_gone, waiting_for
from support.waiting import wait_until
from worker_core import (
    Engine,
    EngineClosed,
    EngineSettings,
    ExecutorUnavailable,
    IdempotencyKeyReused,
    InvalidRequest,
    JobNotFinished,
    JobNotFound,
    JobNotRunning,
    JobSpec,
    QueueFull,
    State,
    StateDirInUse,
    StoreUnavailable,
)
from worker_core.disk import files  # fmt: skip
from worker_core.model.spec import DEFAULT
from worker_core.store.store import Store
from worker_core.testing.fakes import FakeExecutor


@pytest.fixture(scope="module")
def engine():
    with Engine() as engine:
        yield engine


def test_the_example_of_the_documentation():
    """The first thing that a user tries would not work."""
    with Engine() as engine:
        job = engine.submit(JobSpec("echo", ["hi"]), owner="me")
        engine.wait(job.id)
        assert engine.read_output(job.id) == b"hi\n"


def test_an_ephemeral_engine_leaves_nothing():
    """Each program that uses the library would leave a process and a directory."""
    with Engine() as engine:
        job = begin(engine, shell("echo ready; sleep 600"))
        pid, path = supervisor_pid(engine.state_dir), engine.state_dir
    assert not os.path.exists(path)
    wait_gone(pid)
    wait_gone(job.pid)


def test_a_record_tells_what_happened(engine):
    """A field of the record would be missing or wrong."""
    job = run(engine, shell("exit 3", name="build", labels={"a": "b"}), owner="alice")
    assert uuid.UUID(job.id).version == 4
    assert (job.owner, job.state, job.exit_code) == ("alice", State.FAILED, 3)
    assert job.created_at <= job.started_at <= job.ended_at
    assert job.usage.wall_seconds >= 0
    assert job.reason == "exit code 3"
    assert engine.get(job.id) == job


def test_running_jobs_tell_what_they_have_used(engine):
    """A user could not see that a job burns the processor."""
    job = begin(engine, shell("echo ready; while :; do :; done"))
    wait_until(lambda: (used := engine.get(job.id).usage) and used.user_seconds > 0.05)
    assert engine.get(job.id).usage.max_rss_bytes > 0
    engine.kill(job.id, now=True)


@pytest.mark.parametrize(
    "unknown", ["", "x", "00000000-0000-4000-8000-000000000000", "../..", "\0", "\ud800"]
)
def test_an_id_that_no_job_has(engine, unknown):
    """A wrong id would be a crash, or read a file somewhere else."""
    for call in (engine.get, engine.kill, engine.remove, engine.read_output, engine.output_info,
                 engine.wait, engine.follow, lambda each: engine.signal(each, "TERM")):  # fmt: skip
        with pytest.raises(JobNotFound):
            call(unknown)


@pytest.mark.parametrize("owner", ["", "x" * 256, "\ud800"])
def test_a_bad_owner_is_refused(engine, owner):
    """A job would have no owner."""
    with pytest.raises(InvalidRequest, match="owner"):
        engine.submit(JobSpec("true"), owner)
    with pytest.raises(InvalidRequest, match="account"):
        engine.submit(JobSpec("true"), "me", run_as=owner)


def test_the_same_key_runs_once(tmp_path):
    """A request that is sent again after a lost answer would run the job twice."""
    count = tmp_path / "count"
    spec = shell(f"echo x >> {count}", stdin=b"a")
    with Engine(tmp_path / "state") as engine:
        first = engine.submit(spec, "me", idempotency_key="k")
        again = engine.submit(spec, "me", idempotency_key="k")
        assert first.id == again.id
        assert engine.submit(spec, "you", idempotency_key="k").id != first.id
        with pytest.raises(IdempotencyKeyReused):
            engine.submit(JobSpec("false"), "me", idempotency_key="k")
        with pytest.raises(IdempotencyKeyReused):
            engine.submit(shell(f"echo x >> {count}", stdin=b"b"), "me", idempotency_key="k")
        for job in engine.list().jobs:
            engine.wait(job.id, 20)
        assert engine.counts() == {"running": 0, "queued": 0}
    with Engine(tmp_path / "state") as engine:
        assert engine.submit(spec, "me", idempotency_key="k").id == first.id
        assert len(os.listdir(tmp_path / "state" / "jobs")) == len(engine.list().jobs) == 2
    assert count.read_text() == "x\nx\n"


def test_the_same_key_is_the_same_after_an_upgrade(tmp_path, monkeypatch):
    """A request that is sent again to a later release would be refused as another one."""
    with Engine(tmp_path) as engine:
        first = engine.submit(JobSpec("true", ["x"]), "me", idempotency_key="k")
        engine.wait(first.id, 20)
    today = JobSpec.to_dict
    monkeypatch.setattr(JobSpec, "to_dict", lambda spec: today(spec) | {"priority": 0})
    monkeypatch.setattr("worker_core.engine.admission._DEFAULT", DEFAULT.to_dict())
    with Engine(tmp_path) as engine:
        assert engine.submit(JobSpec("true", ["x"]), "me", idempotency_key="k").id == first.id
        with pytest.raises(IdempotencyKeyReused):
            engine.submit(JobSpec("true"), "me", idempotency_key="k")


def test_the_same_key_at_the_same_time_runs_once(engine):
    """Two copies of a request that race would run the job twice."""
    start, seen = threading.Barrier(8, timeout=30), []

    def submit():
        start.wait()
        seen.append(engine.submit(JobSpec("true"), "me", idempotency_key="race").id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_lists_are_filtered_and_come_in_pages():
    """A user would see others' jobs, a job twice, or not at all."""
    with Engine() as engine:
        mine = [run(engine, shell(f"exit {n % 2}", name=f"n{n % 3}", labels={"n": str(n)})).id
                for n in range(7)]  # fmt: skip
        run(engine, JobSpec("true"), owner="other")
        pages, cursor = [], None
        while True:
            page = engine.list(owner="me", limit=3, cursor=cursor)
            pages.append([job.id for job in page.jobs])
            if (cursor := page.next_cursor) is None:
                break
        assert pages == [mine[:3:-1], mine[3:0:-1], mine[:1]]

        def found(**wanted):
            return {job.id for job in engine.list(owner="me", **wanted).jobs}

        assert found(states=[State.FAILED]) == set(mine[1::2])
        assert found(states=[State.FAILED, State.COMPLETED]) == set(mine)
        assert found(name="n1") == {mine[1], mine[4]}
        assert found(labels={"n": "5"}) == {mine[5]}
        assert found(labels={"n": "5", "x": "y"}) == set()
        assert found(id_prefix=mine[2][:9]) == {mine[2]}
        assert found(id_prefix="%") == set()
        assert found(since=engine.get(mine[4]).created_at) == set(mine[4:])
        for bad in ({"cursor": "x"}, {"cursor": "-1"}, {"limit": 0}, {"limit": 2**70}):
            with pytest.raises(InvalidRequest):
                engine.list(**bad)


RAW = ["\udcff", "?", "\udcfe", "µ", "漢\udcff", "\N{GRINNING FACE}", "a\0b"]


def test_whatever_name_and_labels_a_job_has_it_is_found_by_them():
    """A job with a name that is not UTF-8 could not be listed, or others would be listed for it."""
    with Engine(executor=FakeExecutor()) as engine:
        jobs = {}
        for text in RAW:
            spec = JobSpec("sleep", name=text, labels={text: text, "both": f"{text}="})
            jobs[text] = engine.submit(spec, "me").id
        for text in RAW:
            for wanted in (
                {"name": text},
                {"labels": {text: text}},
                {"labels": {"both": f"{text}="}, "name": text},
            ):
                assert [job.id for job in engine.list(**wanted).jobs] == [jobs[text]], wanted


def test_jobs_wait_for_a_slot_and_say_why():
    """More jobs than allowed would run, or users would not see why a job waits."""
    with Engine(settings=EngineSettings(max_running=2, max_queued=2)) as engine:
        first, second = (begin(engine, shell("echo ready; sleep 600")) for _ in range(2))
        third = engine.submit(JobSpec("true"), "me")
        assert third.state is State.QUEUED
        assert third.reason == "waiting for a free slot: 2 of 2 running"
        assert engine.list(states=[State.QUEUED]).jobs[0].reason == third.reason
        engine.submit(JobSpec("true"), "me")
        with pytest.raises(QueueFull, match="2 jobs are queued already"):
            engine.submit(JobSpec("true"), "me")
        assert engine.counts() == {"running": 2, "queued": 2}
        with pytest.raises(JobNotRunning, match="is still queued"):
            engine.signal(third.id, "HUP")
        assert set(os.listdir(f"{engine.state_dir}/jobs")) == {job.id for job in engine.list().jobs}
        engine.kill(first.id, now=True)
        job = engine.wait(third.id, 20)
        assert (job.state, job.reason) == (State.COMPLETED, None)
        engine.kill(second.id, now=True)


def test_a_repeated_request_finds_its_job_although_the_queue_is_full():
    """A client that repeats a request whose answer was lost would read that there is no job."""
    with Engine(settings=EngineSettings(max_running=1, max_queued=1)) as engine:
        begin(engine, shell("echo ready; sleep 600"))
        job = engine.submit(JobSpec("true"), "me", idempotency_key="k")
        assert engine.submit(JobSpec("true"), "me", idempotency_key="k").id == job.id
        with pytest.raises(IdempotencyKeyReused):
            engine.submit(JobSpec("false"), "me", idempotency_key="k")
        with pytest.raises(QueueFull):
            engine.submit(JobSpec("true"), "me", idempotency_key="another")
        assert engine.counts() == {"running": 1, "queued": 1}


def test_a_repeated_request_finds_its_job_although_the_disk_is_full(engine, monkeypatch):
    """Who repeats a request whose answer was lost would take the refusal for its outcome."""
    job = engine.submit(JobSpec("true"), "me", idempotency_key="k")
    monkeypatch.setattr(engine._reserve, "kept", lambda: False)
    assert engine.submit(JobSpec("true"), "me", idempotency_key="k").id == job.id
    with pytest.raises(IdempotencyKeyReused):
        engine.submit(JobSpec("false"), "me", idempotency_key="k")
    with pytest.raises(StoreUnavailable, match="; remove finished jobs"):
        engine.submit(JobSpec("true"), "me", idempotency_key="another")
    with pytest.raises(StoreUnavailable, match="; remove finished jobs"):
        engine.submit(JobSpec("true"), "me")


def test_a_full_queue_is_in_the_way_of_nobody_who_need_not_wait():
    """An owner with many waiting jobs would keep out others although slots are free for them."""
    with Engine(settings=EngineSettings(max_running=2, max_queued=0)) as engine:
        assert run(engine, JobSpec("true")).state is State.COMPLETED
        begin(engine, shell("echo ready; sleep 600"))
        begin(engine, shell("echo ready; sleep 600"))
        with pytest.raises(QueueFull, match="all slots are taken; try again"):
            engine.submit(JobSpec("true"), "me")
    with Engine(settings=EngineSettings(max_running_per_owner=1, max_queued=1)) as engine:
        begin(engine, shell("echo ready; sleep 600"))
        engine.submit(JobSpec("true"), "me")
        assert run(engine, JobSpec("true"), owner="you").state is State.COMPLETED


def test_one_owner_cannot_take_everything():
    """A user with many jobs would leave no slot to others."""
    settings = EngineSettings(max_running_per_owner=1, max_queued_per_owner=1)
    with Engine(settings=settings) as engine:
        first = begin(engine, shell("echo ready; sleep 600"))
        waits = engine.submit(JobSpec("true"), "me")
        assert waits.reason == "waiting for a free slot of me: 1 of 1 running"
        with pytest.raises(QueueFull, match="1 jobs of me are queued already"):
            engine.submit(JobSpec("true"), "me")
        assert run(engine, JobSpec("true"), owner="you").state is State.COMPLETED
        engine.kill(first.id, now=True)
        assert engine.wait(waits.id, 20).state is State.COMPLETED


def test_waiting_ends_with_the_job_or_with_the_time(engine):
    """A thread would wait for ever, or return too early."""
    job = begin(engine, shell("echo ready; sleep 600"))
    assert engine.wait(job.id, 0).state is State.RUNNING
    assert engine.wait(job.id, 0.05).state is State.RUNNING
    ends = []
    waiters = [threading.Thread(target=lambda: ends.append(engine.wait(job.id, 20).state))
               for _ in range(5)]  # fmt: skip
    for each in waiters:
        each.start()
    engine.kill(job.id, now=True)
    for each in waiters:
        each.join(10)
    assert ends == [State.KILLED] * 5


def test_only_a_finished_job_can_be_removed(engine):
    """A running job would lose its output, or a removed one be found."""
    job = begin(engine, shell("echo ready; sleep 600"))
    with pytest.raises(JobNotFinished, match="is running; kill it first"):
        engine.remove(job.id)
    engine.kill(job.id, now=True)
    path = engine.output_info(job.id).path
    engine.remove(job.id)
    assert not path.parent.exists()
    with pytest.raises(JobNotFound):
        engine.get(job.id)


def test_events_tell_each_change_and_can_be_resumed(engine):
    """A page that shows jobs live would miss a change, or show others' jobs."""
    events = engine.events("watcher", heartbeat=10)
    run(engine, JobSpec("true"), owner="somebody else")
    job = run(engine, shell("exit 3"), owner="watcher")
    seen = []
    while not seen or not seen[-1].state.final:
        seen.append(next(events))
    assert {each.id for each in seen} == {job.id}
    assert seen[-1].exit_code == 3
    assert [each.version for each in seen] == sorted({each.version for each in seen})
    again = engine.events("watcher", after=seen[0].version - 1)
    assert next(again).version == seen[-1].version  # what came in between is told as one
    quiet = engine.events("watcher", heartbeat=0.01)
    assert next(quiet) is None
    for each in (events, again, quiet):
        each.close()


def test_statistics_count(engine):
    """Monitoring would show wrong numbers."""
    before = engine.statistics()
    run(engine, JobSpec("true"))
    run(engine, JobSpec("echi"))
    after = engine.statistics()
    assert set(after.by_state) == {state.value for state in State}
    assert after.started - before.started == 2
    assert after.ended["completed"] - before.ended["completed"] == 1
    assert after.ended["failed"] - before.ended["failed"] == 1
    assert after.output_bytes > 0


@pytest.mark.parametrize("path", ["", "/proc/none", "/etc/passwd", "/dev/null/x"])
def test_a_directory_that_cannot_be_used_is_an_error_of_its_own(path):
    """A program that catches WorkerError would end with a traceback, or have files anywhere."""
    before = os.listdir()
    with pytest.raises(StoreUnavailable, match="cannot keep jobs in "):
        Engine(path)
    assert os.listdir() == before


def test_a_state_directory_below_a_removed_directory_is_refused(tmp_path, monkeypatch):
    """The error would say that a file is missing, but not which."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for use in (Engine, worker_core.rebuild_records):
        with pytest.raises(StoreUnavailable, match="cannot use s: the working directory was remov"):
            use("s")


@pytest.mark.parametrize("left", range(3))  # store, executor and retention need one each
def test_without_a_thread_to_spare_no_engine_is_made_and_nothing_is_left(
    tmp_path, monkeypatch, left
):
    """A program would see an error that does not name the limit, or be unable to try again."""
    start, started = threading.Thread.start, []

    def limited(self):
        if len(started) == left:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", limited)
        with pytest.raises(ExecutorUnavailable, match="the limit on processes is reached"):
            Engine(tmp_path)
    with Engine(tmp_path) as engine:
        assert run(engine, JobSpec("true")).state is State.COMPLETED


def test_what_there_is_can_be_found():
    """Who looks for a name in a Python prompt would find two of them."""
    assert {"Engine", "JobSpec", "StoreUnavailable", "Limits"} <= set(dir(worker_core))


def test_a_state_directory_has_one_engine(tmp_path):
    """Two daemons would write the same jobs."""
    with Engine(tmp_path), pytest.raises(StateDirInUse, match="another engine has it open"):
        Engine(tmp_path)
    with Engine(tmp_path) as engine:
        assert engine.health() == {"store": "ok", "supervisor": "ok", "disk": "ok"}


def test_a_closed_engine_says_so():
    """A use after close would hang, or work on nothing."""
    with Engine() as engine:
        job = run(engine, JobSpec("true"))
        follower = engine.follow(begin(engine, shell("echo ready; sleep 600")).id)
        next(follower)
    engine.close()
    for call in (lambda: engine.submit(JobSpec("true"), "me"), lambda: engine.get(job.id),
                 engine.list, lambda: engine.kill(job.id), lambda: next(follower),
                 engine.statistics, lambda: engine.events("me")):  # fmt: skip
        with pytest.raises(EngineClosed):
            call()


def test_closing_wakes_everybody_who_waits(tmp_path):
    """A thread that waits for a job would wait for ever after the engine was closed."""
    script = "trap 'echo asked' CONT; echo ready; while :; do sleep 0.01; done"
    with Engine(tmp_path) as engine:
        job = begin(engine, shell(script))
        waits = [lambda: engine.wait(job.id), lambda: list(engine.follow(job.id)),
                 lambda: engine.kill(job.id, signal="CONT", grace=60, wait=60),
                 lambda: next(engine.events("you", heartbeat=60))]  # fmt: skip
        ends = []

        def wait(what):
            try:
                ends.append(what())
            except EngineClosed:
                ends.append(EngineClosed)

        threads = [threading.Thread(target=wait, args=(what,), daemon=True) for what in waits]
        for each in threads:
            each.start()
        # A kill of which only the store knows would be sent by the next engine, as SIGTERM.
        wait_until(lambda: engine.read_output(job.id).endswith(b"asked\n"))
    for each in threads:
        each.join(10)
    with Engine(tmp_path) as engine:
        engine.kill(job.id, now=True)
    assert ends == [EngineClosed] * 4


def test_several_jobs_run_at_the_same_time(engine, tmp_path):
    """One job would wait for another."""
    everybody = f"[ $(ls {tmp_path} | wc -l) = 5 ]"
    script = f"touch {tmp_path}/$WORKER_JOB_ID; until {everybody}; do sleep 0.01; done"
    jobs = [engine.submit(shell(script, timeout=20), "me") for _ in range(5)]
    assert all(engine.wait(job.id, 30).state is State.COMPLETED for job in jobs)


def test_the_host_program_has_no_child_of_ours():
    """A program that waits for its own children would find one that it does not know."""
    code = (
        "import os; from worker_core import Engine, JobSpec\n"
        "with Engine() as engine:\n"
        "    engine.wait(engine.submit(JobSpec('true'), 'me').id)\n"
        "    try: print(os.waitpid(-1, os.WNOHANG))\n"
        "    except ChildProcessError: print('none')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"


def test_a_slot_that_is_free_before_the_record_of_the_next_job_is_written(tmp_path, monkeypatch):
    """A job would be promised and wait for ever, and its slot be lost to everybody."""
    create = files.create

    def late(path, data, *, sync=False):
        create(path, data, sync=sync)
        if path.endswith("/stdin"):  # of the second job, which has no record yet
            (tmp_path / "go").touch()
            engine.wait(first.id, 10)

    with Engine(tmp_path / "state", settings=EngineSettings(max_running=1)) as engine:
        first = begin(engine, shell(waiting_for(tmp_path / "go")))
        monkeypatch.setattr(files, "create", late)
        assert run(engine, JobSpec("cat", stdin=b"x")).state is State.COMPLETED
        assert engine.counts() == {"running": 0, "queued": 0}


@pytest.mark.parametrize("recorded", [False, True])
def test_a_submission_that_is_interrupted_keeps_no_slot(monkeypatch, recorded):
    """After Ctrl-C in a program that uses the library, no job would start any more."""
    real = Store.write

    def interrupted(store, *args):
        if recorded:
            real(store, *args)
        raise KeyboardInterrupt

    with Engine(settings=EngineSettings(max_running=1)) as engine:
        with monkeypatch.context() as handler:
            handler.setattr(Store, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                engine.submit(JobSpec("true"), "me")
        job = engine.submit(JobSpec("true"), "me")
        assert engine.wait(job.id, 10).state is State.COMPLETED
        jobs = engine.list().jobs
        assert [each.state for each in jobs] == [State.COMPLETED] * (1 + recorded)
        assert engine.counts()["queued"] == 0


def test_many_jobs_from_many_threads_all_get_their_turn(tmp_path):
    """A job would be forgotten in the queue when others end while it is submitted."""
    jobs = []

    def submit():
        jobs.extend(engine.submit(JobSpec("true"), "me").id for _ in range(20))

    with Engine(tmp_path, settings=EngineSettings(max_running=2)) as engine:
        threads = [threading.Thread(target=submit) for _ in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(jobs) == 120
        assert all(engine.wait(job_id, 20).state is State.COMPLETED for job_id in jobs)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_engine_is_of_no_use_to_a_fork(tmp_path):
    """The child of a program that uses the library would wait for a thread that it does not have,
    or end the jobs of its parent."""
    with Engine() as engine:
        job = engine.submit(JobSpec("sleep", ["600"]), "me")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                engine.submit(JobSpec("true"), "me")
            except EngineClosed as error:
                engine.close()
                code = 0 if "forked" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert engine.get(job.id).state is State.RUNNING


def test_a_job_begins_before_what_it_does(tmp_path):
    """The first line of an output would be older than the job that wrote it."""
    with Engine(tmp_path) as engine:
        jobs = [engine.submit(JobSpec("date", ["+%s.%N"]), "me") for _ in range(20)]
        for each in jobs:
            job = engine.wait(each.id, 20)
            assert job.started_at <= float(engine.read_output(job.id)) <= job.ended_at
