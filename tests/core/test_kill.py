"""Killing jobs: nothing is left running, and the record says why each job ended."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import threading

import pytest
from support.core import (
    LONG,
    Sleepers,
    begin,
    launcher_pids,
    marked,
    run,
    shell,
    supervisor_pid,
)
from support.waiting import wait_until
from worker_core import (
    Engine,
    EngineSettings,
    InvalidRequest,
    Isolation,
    JobNotFound,
    JobNotRunning,
    JobSpec,
    Limits,
    State,
)
from worker_core.linux import procfs

FOREVER = "while :; do sleep 0.01; done"

FIRST_THREAD_ENDS = """
import ctypes, sys, threading, time
def go_on():
    with open("/proc/self/stat") as file:
        while file.read().rpartition(")")[2].split()[0] != "Z":
            file.seek(0)
    print("ready", flush=True)
    time.sleep(float(sys.argv[1]))
    import os; os._exit(5)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""

FORK_LOOP = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
for _ in range(300):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    time.sleep(0.001)
time.sleep(600)
"""

# Waits until the shell's child has executed its program; stopped before, it would never be a sleep.
EXECUTED = "until grep -q sleep /proc/$!/comm; do sleep 0.01; done"

# How many sleeps each script starts with $S, in a way that is hard to end, before it says "ready".
TREES = {
    "background and wait": (1, "$S & echo ready; wait"),
    "a session of its own": (1, "setsid $S & echo ready; wait"),
    "double fork, environment cleared": (1, "(setsid env -i $S &); echo ready; sleep 600"),
    "double fork twice": (1, "(setsid sh -c '(setsid env -i $S &)' &); echo ready; sleep 600"),
    "ignored TERM": (1, "trap '' TERM; echo ready; $S; sleep 600"),
    "children that ignore TERM": (2, "sh -c 'trap \"\" TERM; $S' & nohup $S & echo ready; wait"),
    "stopped": (1, f"$S & {EXECUTED}; kill -STOP $!; echo ready; wait"),
    "stopped leader": (1, "$S & echo ready; kill -STOP $$; wait"),
    "nested": (3, "sh -c 'sh -c \"$S & wait\" & $S & wait' & $S & echo ready; wait"),
}


@pytest.fixture(scope="module", params=["cgroups", "mark and walks"])
def engine(request):
    """An engine whose supervisor uses cgroups where there are any, and one that never does."""
    patch = pytest.MonkeyPatch()
    if request.param != "cgroups":
        patch.setenv("WORKER_CGROUPS", "off")
    with Engine() as engine:
        patch.undo()
        yield engine


def start(engine, script, sleepers, **spec):
    return begin(engine, shell(script, env={"S": str(sleepers)}, **spec))


@pytest.mark.parametrize("name", TREES)
def test_a_kill_ends_the_whole_tree(engine, name):
    """What a killed job had started would go on, unseen."""
    count, script = TREES[name]
    sleepers = Sleepers()
    job = start(engine, script, sleepers)
    sleepers.wait(count)
    job = engine.kill(job.id, by="alice", grace=0.3)
    assert job.state is State.KILLED
    assert job.killed_by == "alice"
    assert sleepers.count() == 0
    assert marked(job.id) == []


def test_a_kill_ends_a_fork_loop(engine):
    """A job that forks faster than it is walked would survive."""
    job = begin(engine, JobSpec("python3", ["-c", FORK_LOOP]))
    wait_until(lambda: len(marked(job.id)) > 50, message="the loop to fork")
    assert engine.kill(job.id, by="me", grace=0.05).state is State.KILLED
    assert marked(job.id) == []


def test_a_process_whose_first_thread_has_ended_can_be_ended(engine):
    """A program that goes on in its other threads could not be killed, nor time out."""
    spec = JobSpec("python3", ["-c", FIRST_THREAD_ENDS, "600"])
    job = begin(engine, spec)
    assert procfs.stat(job.pid).state != "Z"
    assert engine.kill(job.id, by="me").state is State.KILLED
    late = run(engine, dataclasses.replace(spec, timeout=0.5))
    assert late.state is State.TIMED_OUT
    by_itself = run(engine, JobSpec("python3", ["-c", FIRST_THREAD_ENDS, "0"]))
    assert (by_itself.state, by_itself.exit_code) == (State.FAILED, 5)
    behind = JobSpec(
        "sh", ["-c", '(setsid python3 -c "$0" 600 &) | read -r line', FIRST_THREAD_ENDS]
    )
    left = run(engine, behind)
    assert left.state is State.COMPLETED
    assert marked(left.id) == []


def test_a_grandchild_that_holds_stdout_does_not_delay_the_end(engine):
    """Waiting for the end of the output would wait for grandchildren."""
    sleepers = Sleepers()
    job = run(engine, shell(f"setsid {sleepers} & echo done; exit 3"))
    assert (job.state, job.exit_code) == (State.FAILED, 3)
    assert engine.read_output(job.id) == b"done\n"
    assert sleepers.count() == 0


def test_leftovers_are_killed_and_the_outcome_of_the_leader_is_kept(engine):
    """A job would leave daemons behind, or be called killed because of them."""
    sleepers = Sleepers()
    job = run(engine, shell(f"(setsid env -i {sleepers} &); (setsid {sleepers} &); exit 0"))
    assert (job.state, job.exit_code, job.killed_by) == (State.COMPLETED, 0, None)
    assert sleepers.count() == 0


ESCAPES = """
import os, resource, sys
if os.fork() == 0:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_RTTIME, (resource.RLIM_INFINITY,) * 2)
    if os.fork() == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    os._exit(0)
os.wait()
print("ready", flush=True)
os.execvp("sleep", ["sleep", "600"])
"""


def test_a_process_without_its_mark_does_not_survive_the_job(engine):
    """A job without a control group could leave something behind that its kill does not reach."""
    mine, theirs, marked_one = Sleepers(), Sleepers(), Sleepers()
    script = "(setsid env -i $S &); echo ready; sleep 600"
    other = start(engine, script, marked_one)
    job = begin(engine, JobSpec("python3", ["-c", ESCAPES, *str(mine).split()]))
    mine.wait(1)
    assert engine.kill(job.id, by="me").state is State.KILLED
    assert mine.count() == 0
    ends = JobSpec("python3", ["-c", ESCAPES.replace("600", "0"), *str(theirs).split()])
    assert run(engine, ends).state is State.COMPLETED
    assert theirs.count() == 0
    assert marked_one.count() == 1  # what carries the mark of a running job stays
    assert engine.kill(other.id, by="me").state is State.KILLED
    assert marked_one.count() == 0


def test_the_orphans_of_one_job_are_not_those_of_another(engine):
    """Ending one job would kill the background processes of all others."""
    mine, theirs = Sleepers(), Sleepers()
    script = "(setsid env -i $S &); echo ready; sleep 600"
    jobs = [start(engine, script, theirs) for _ in range(3)]
    theirs.wait(3)
    victim = start(engine, script, mine)
    mine.wait(1)
    engine.kill(victim.id, by="me")
    run(engine, shell("(setsid env -i true &); exit 0"))
    assert (mine.count(), theirs.count()) == (0, 3)
    for job in jobs:
        engine.kill(job.id, by="me", wait=0)
    assert all(engine.wait(job.id, 20).state is State.KILLED for job in jobs)
    assert theirs.count() == 0


def test_the_stop_signal_may_be_handled_and_its_exit_code_is_kept(engine):
    """A clean end after TERM would lose its code, or not be called killed."""
    job = begin(engine, shell(f"trap 'echo bye; exit 7' TERM; echo ready; {FOREVER}"))
    job = engine.kill(job.id, by="me")
    assert (job.state, job.exit_code, job.signal) == (State.KILLED, 7, None)
    assert engine.read_output(job.id).endswith(b"bye\n")


def test_a_handler_that_exits_with_zero_was_still_killed(engine):
    """A server that ends cleanly on TERM would look as if it had completed its work."""
    job = begin(engine, shell(f"trap 'exit 0' TERM; echo ready; {FOREVER}"))
    assert engine.kill(job.id, by="me").state is State.KILLED


def test_a_signal_of_its_own_is_sent_first(engine):
    """A program that ends on another signal than TERM could not be ended cleanly."""
    script = f"trap 'echo int; exit' INT; trap 'echo usr; exit' USR1; echo ready; {FOREVER}"
    job = begin(engine, shell(script, stop_signal="INT"))
    engine.kill(job.id, by="me")
    assert engine.read_output(job.id).endswith(b"int\n")
    job = begin(engine, shell(script, stop_signal="INT"))
    engine.kill(job.id, by="me", signal="USR1")
    assert engine.read_output(job.id).endswith(b"usr\n")


def test_a_real_time_signal_can_be_the_stop_signal(engine):
    """A job with such a signal could never be ended cleanly."""
    job = begin(engine, shell("echo ready; exec sleep 600", stop_signal="RTMIN+3"))
    job = engine.kill(job.id, by="me")
    assert (job.state, job.signal) == (State.KILLED, signal.SIGRTMIN + 3)


def test_now_sends_sigkill_at_once(engine):
    """`now` would wait for a job that does not want to end."""
    job = begin(engine, shell("trap '' TERM; echo ready; sleep 600"))
    job = engine.kill(job.id, by="me", now=True, grace=LONG)
    assert (job.state, job.signal) == (State.KILLED, signal.SIGKILL)


def test_a_second_kill_shortens_the_grace_of_the_first(engine):
    """A kill with a long grace could not be shortened."""
    job = begin(engine, shell("trap '' TERM; echo ready; sleep 600"))
    stopping = engine.kill(job.id, by="alice", reason="too slow", grace=LONG, wait=0)
    assert stopping.state is State.STOPPING
    job = engine.kill(job.id, by="bob", now=True)
    assert (job.state, job.killed_by) == (State.KILLED, "alice")
    assert job.reason == "killed by alice: too slow"


def test_a_plain_signal_is_not_a_kill(engine):
    """`signal` would be counted as a kill, or not reach the tree."""
    child = f"sh -c 'trap \"echo two\" USR1; echo ready; {FOREVER}'"
    job = begin(engine, shell(f"trap 'echo one' USR1; {child} & {FOREVER}"))
    engine.signal(job.id, "USR1")
    wait_until(lambda: {b"one", b"two"} <= set(engine.read_output(job.id).split()))
    assert engine.get(job.id).state is State.RUNNING
    engine.signal(job.id, signal.SIGKILL)
    job = engine.wait(job.id, 20)
    assert (job.state, job.signal, job.killed_by) == (State.FAILED, 9, None)
    with pytest.raises(JobNotRunning):
        engine.signal(job.id, "USR1")


def test_a_timeout_ends_the_tree_and_says_so(engine):
    """A job that hangs would hang for ever, or look like a failure of its own."""
    sleepers = Sleepers()
    job = run(engine, shell(f"setsid {sleepers} & wait", timeout=0.2))
    assert (job.state, job.signal) == (State.TIMED_OUT, 15)
    assert job.reason == "timed out after 0.2 seconds"
    assert sleepers.count() == 0


def test_a_timeout_is_followed_by_the_grace(engine):
    """A job that ignores TERM would outlive its time."""
    job = run(engine, shell("trap '' TERM; sleep 600", timeout=2, stop_grace=0.1))
    assert (job.state, job.signal) == (State.TIMED_OUT, 9)


def test_killing_an_unknown_job_says_that_there_is_none(engine):
    """A typing error would look like success."""
    for unknown in ("", "x", "00000000-0000-4000-8000-000000000000", "\0", "\udcff"):
        with pytest.raises(JobNotFound):
            engine.kill(unknown)


def test_killing_a_finished_job_says_how_it_ended(engine):
    """A finished job would be called killed, or the answer would not say why not."""
    job = run(engine, JobSpec("true"))
    with pytest.raises(JobNotRunning, match="has already completed with exit code 0") as caught:
        engine.kill(job.id, by="me")
    assert caught.value.job.state is State.COMPLETED
    job = run(engine, shell("exit 3"))
    with pytest.raises(JobNotRunning, match="has already failed: exit code 3"):
        engine.kill(job.id, by="me")


@pytest.mark.parametrize("bad", [{"signal": "NOPE"}, {"signal": 0}, {"signal": 999}, {"grace": -1},
                                 {"grace": float("nan")}, {"by": ""},
                                 {"by": "\ud800"}])  # fmt: skip
def test_a_bad_kill_is_refused_and_does_nothing(engine, bad):
    """A misspelt signal would end a job in another way than was meant."""
    job = begin(engine, shell("echo ready; sleep 600"))
    with pytest.raises(InvalidRequest):
        engine.kill(job.id, **bad)
    assert engine.get(job.id).state is State.RUNNING
    engine.kill(job.id, now=True)


def test_two_hundred_kills_aimed_at_the_moment_of_exit(engine):
    """A kill that meets an exit would hang, kill another process, or claim what it did not do."""
    numbers = random.Random(20)
    told = []

    def one(delay):
        job = engine.submit(JobSpec("sleep", [f"{delay:.4f}"]), "me")
        pause = threading.Event()
        pause.wait(delay + numbers.uniform(-0.01, 0.01))
        try:
            told.append(("killed", engine.kill(job.id, by="me", wait=20)))
        except JobNotRunning as error:
            told.append(("ended", error.job))

    for _ in range(20):
        threads = [threading.Thread(target=one, args=(0.02,)) for _ in range(10)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
            assert not each.is_alive()
    assert len(told) == 200
    for answer, job in told:
        # `sleep` does not handle TERM: an exit code means that it ended by itself.
        by_itself = job.exit_code == 0
        assert (job.state is State.COMPLETED) == by_itself
        assert (answer == "ended") == by_itself
        assert by_itself or (job.state, job.killed_by) == (State.KILLED, "me")
        # On a slow machine it may not have begun.
        assert by_itself or job.signal == (15 if job.started_at else None)


def test_a_queued_job_that_is_killed_never_starts(tmp_path):
    """A job would run after it was killed."""
    ran = tmp_path / "ran"
    with Engine(settings=EngineSettings(max_running=1)) as engine:
        first = begin(engine, shell("echo ready; sleep 600"))
        second = engine.submit(shell(f"touch {ran}"), "me")
        third = engine.submit(JobSpec("true"), "me")
        assert second.state is State.QUEUED
        job = engine.kill(second.id, by="me", reason="changed my mind")
        assert (job.state, job.reason) == (State.KILLED, "killed by me: changed my mind")
        assert (job.started_at, job.exit_code, job.signal) == (None, None, None)
        engine.kill(first.id, by="me")
        assert engine.wait(third.id, 20).state is State.COMPLETED
        assert not ran.exists()


def test_a_job_whose_directory_was_removed_can_be_ended(engine):
    """A job that deletes too much would run for ever, hold its slot, and fill the log."""
    job = begin(engine, shell("echo ready; sleep 600"))
    shutil.rmtree(engine.output_info(job.id).path.parent)
    assert engine.kill(job.id, by="me").state is State.KILLED
    assert engine.read_output(job.id) == b""
    engine.remove(job.id)


def test_a_job_that_needs_a_fork_has_a_group_of_its_own(engine):
    """A job with limits, or in a sandbox, could leave something running."""
    kinds = ({}, {"limits": Limits(open_files=50)}, {"isolation": Isolation(pid_namespace=True)})
    jobs = [begin(engine, shell("echo ready; sleep 600", **each)) for each in kinds]
    groups = [os.path.basename(procfs.cgroup(job.pid) or "") for job in jobs]
    assert groups == [job.id for job in jobs] or len(set(groups)) == 1  # there may be none here
    for job in jobs:
        assert engine.kill(job.id, by="me", now=True).state is State.KILLED


def test_each_job_is_in_its_group_however_many_are_started(engine):
    """A job started in a crowd would be in another one's group, and end with it."""
    jobs = [engine.submit(shell("sleep 600"), "me") for _ in range(30)]
    wait_until(lambda: all(engine.get(job.id).pid for job in jobs))
    groups = [os.path.basename(procfs.cgroup(engine.get(job.id).pid) or "") for job in jobs]
    if set(groups) & {job.id for job in jobs}:  # else there are no groups
        assert groups == [job.id for job in jobs]
    engine.kill(jobs[0].id, now=True)
    assert all(engine.get(job.id).state is State.RUNNING for job in jobs[1:])
    for job in jobs[1:]:
        engine.kill(job.id, now=True, wait=0)
    assert all(engine.wait(job.id, 20).state is State.KILLED for job in jobs)


def test_a_job_whose_groups_are_too_deep_to_be_removed_ends(engine):
    """A job that makes control groups below its own would never be seen to end."""
    job = begin(engine, shell("echo ready; sleep 600"))
    group = procfs.cgroup(job.pid) or ""
    grouped = os.path.basename(group) == job.id
    if grouped:
        deeper = "mkdir $NAME && cd -P $NAME && n=$((n+1)) && [ $n -lt 20 ]"
        make = shell(f"cd {group}; while {deeper}; do :; done", env={"NAME": "g" * 250})
        assert run(engine, make).state.final
    assert engine.kill(job.id, by="me").state is State.KILLED
    if grouped:
        subprocess.run(["find", group, "-depth", "-type", "d", "-delete"], check=True)


def test_the_supervisor_keeps_no_descriptor_and_no_child(engine):
    """After some thousand jobs the supervisor could open nothing more."""
    pid = supervisor_pid(engine.state_dir)

    def held():
        """Return its descriptors and children, without those of launchers: one for each."""
        launchers = launcher_pids(engine.state_dir)
        children = set(procfs.children(pid)) - set(launchers)
        return len(os.listdir(f"/proc/{pid}/fd")) - len(launchers), children

    run(engine, JobSpec("true"))
    before = held()
    jobs = [engine.submit(shell("(sleep 0.01 &); exit 1", timeout=60), "me") for _ in range(60)]
    jobs += [engine.submit(JobSpec("no-such-command"), "me") for _ in range(20)]
    assert all(engine.wait(job.id, 30).state is State.FAILED for job in jobs)
    wait_until(lambda: held() == before, message="the last zombies to be reaped")
