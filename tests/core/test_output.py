"""Output: the same bytes, by offset, from the end, as they come, and bounded."""

import os
import threading
import time

import pytest
from support.core import begin, run, shell, supervisor_pid, waiting_for
from support.waiting import wait_until
from worker_core import (
    Engine,
    EngineClosed,
    EngineSettings,
    InvalidRequest,
    JobNotFound,
    JobSpec,
    State,
    StreamNotSeparate,
)
from worker_core.disk import jobdir

MIB = 1 << 20


@pytest.fixture(scope="module")
def engine():
    with Engine() as engine:
        yield engine


def test_every_byte_comes_back(engine):
    """Bytes would be decoded, or a newline added."""
    data = bytes(range(256)) * 3 + b"no newline"
    job = run(engine, JobSpec("cat", stdin=data))
    assert engine.read_output(job.id) == data
    with engine.open_output(job.id) as file:
        assert file.read() == data
    assert b"".join(engine.follow(job.id)) == data


def test_both_streams_share_a_file_in_order(engine):
    """Messages would be torn from the lines that they belong to."""
    job = run(engine, shell("for n in 1 2 3; do echo out$n; echo err$n >&2; done"))
    assert engine.read_output(job.id) == b"".join(b"out%d\nerr%d\n" % (n, n) for n in (1, 2, 3))
    with pytest.raises(StreamNotSeparate):
        engine.read_output(job.id, "stderr")
    with pytest.raises(InvalidRequest, match="invalid stream"):
        engine.read_output(job.id, "stdlog")


def test_separate_streams_are_separate(engine):
    """Errors would be mixed into data."""
    job = run(engine, shell("echo out; echo err >&2", separate_stderr=True))
    assert engine.read_output(job.id) == b"out\n"
    assert engine.read_output(job.id, "stderr") == b"err\n"
    assert list(engine.follow(job.id, "stderr")) == [b"err\n"]


def test_any_part_can_be_read(engine):
    """A download could not be resumed."""
    job = run(engine, shell("printf 0123456789"))
    assert engine.read_output(job.id, offset=3) == b"3456789"
    assert engine.read_output(job.id, offset=3, limit=2) == b"34"
    assert engine.read_output(job.id, offset=10) == engine.read_output(job.id, offset=99) == b""
    assert b"".join(engine.follow(job.id, offset=7)) == b"789"
    info = engine.output_info(job.id)
    assert (info.size, info.start, info.final) == (10, 0, True)


def test_behind_every_possible_byte_there_is_nothing(engine):
    """A mistyped offset would be a traceback."""
    job = run(engine, shell("echo x"))
    assert engine.read_output(job.id, offset=2**70) == b""
    assert list(engine.follow(job.id, offset=2**70)) == []
    assert engine.read_output(job.id, limit=2**70) == b"x\n"


def test_the_last_lines(engine):
    """`--tail 2` would show something else."""
    job = run(engine, shell("printf 'one\\ntwo\\nthree'"))
    assert engine.read_output(job.id, offset=engine.tail_offset(job.id, 2)) == b"two\nthree"


def test_a_follower_sees_every_byte_and_then_the_end(engine, tmp_path):
    """The last lines would be cut off, or the follower wait for ever."""
    job = begin(
        engine, shell(f"echo ready; until [ -e {tmp_path}/go ]; do sleep 0.01; done; seq 50000")
    )
    follower = engine.follow(job.id)
    assert next(follower) == b"ready\n"
    (tmp_path / "go").touch()
    rest = b"".join(follower)
    assert rest == b"".join(b"%d\n" % n for n in range(1, 50001))
    assert engine.get(job.id).state is State.COMPLETED


def test_many_followers_of_a_short_job_see_all_of_it(engine):
    """Whoever is not quick enough would miss the end."""
    seen = []

    def follow(job_id):
        seen.append(b"".join(engine.follow(job_id)))

    for _ in range(20):
        job = engine.submit(shell("echo a; echo b"), "me")
        threads = [threading.Thread(target=follow, args=(job.id,)) for _ in range(10)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
    assert seen == [b"a\nb\n"] * 200


def test_a_queued_job_can_be_followed():
    """Whoever is impatient would get an error or an empty end."""
    with Engine(settings=EngineSettings(max_running=1)) as engine:
        first = begin(engine, shell("echo ready; sleep 600"))
        second = engine.submit(shell("echo x"), "me")
        follower = engine.follow(second.id, heartbeat=0.01)
        assert next(follower) == b""
        engine.kill(first.id, now=True)
        assert b"".join(follower) == b"x\n"


def test_a_silent_job_gives_a_sign_of_life(engine):
    """A server could not tell whether a follower is still there."""
    job = begin(engine, shell("echo ready; sleep 600"))
    follower = engine.follow(job.id, heartbeat=0.01)
    assert [next(follower), next(follower), next(follower)] == [b"ready\n", b"", b""]
    engine.kill(job.id, now=True)
    assert b"".join(follower) == b""


def test_a_follower_of_a_removed_job_does_not_take_that_for_the_end(engine):
    """A download that a removal cuts short would look complete."""
    job = run(engine, JobSpec("head", ["-c", str(MIB), "/dev/zero"]))
    follower = engine.follow(job.id)
    next(follower)
    engine.remove(job.id)
    with pytest.raises(JobNotFound):
        list(follower)


def test_a_follower_of_an_endless_writer_ends_with_the_engine(tmp_path):
    """A daemon that ends would wait for a job that writes faster than anybody reads."""
    with Engine(tmp_path) as engine:
        job = begin(engine, shell("echo ready; exec yes", output_limit=MIB))
        follower = engine.follow(job.id)
        for _ in range(20):
            next(follower)
        engine.close()
        with pytest.raises(EngineClosed):
            list(follower)
    with Engine(tmp_path) as engine:
        engine.kill(job.id, now=True)


def test_a_waiting_job_gives_no_more_signs_of_life_than_a_running_one():
    """Each follower of a queued job would be sent something twice a second."""
    with Engine(settings=EngineSettings(max_running=1)) as engine:
        first = begin(engine, shell("echo ready; sleep 600"))
        second = engine.submit(JobSpec("true"), "me")
        began = time.monotonic()
        assert next(engine.follow(second.id, heartbeat=0.8)) == b""
        assert time.monotonic() - began >= 0.8
        engine.kill(first.id, now=True)


def test_output_is_there_before_the_job_has_ended(engine):
    """A buffer of ours would hold back what a job has said."""
    job = begin(engine, shell("printf ready; sleep 600"))
    assert engine.read_output(job.id) == b"ready"
    assert not engine.output_info(job.id).final
    engine.kill(job.id, now=True)


def test_the_cap_gives_the_oldest_bytes_back_and_says_so(engine):
    """An endless writer would fill the disk, be blocked, or lose its newest output."""
    line = b"x" * 1023 + b"\n"
    script = f"yes {'x' * 1023} | head -c {8 * MIB}; echo ready; sleep 600"
    job = begin(engine, shell(script, output_limit=MIB))
    info = wait_until(
        lambda: (info := engine.output_info(job.id)).start >= 7 * MIB - (64 << 10) and info,
        message="the cap",
    )
    assert info.size == 8 * MIB + 6  # offsets stay true
    assert info.start <= 7 * MIB + 6
    wait_until(lambda: os.stat(info.path).st_blocks * 512 <= 2 * MIB, message="the hole")
    kept = engine.read_output(job.id)
    assert len(kept) == info.size - info.start
    assert kept.endswith(line + b"ready\n")
    assert kept.count(b"\0") == 0
    follower = engine.follow(job.id)
    assert len(next(follower)) > 0
    follower.close()
    job = engine.kill(job.id, now=True)
    assert job.state is State.KILLED


def test_the_cap_holds_for_a_job_that_is_quicker_than_a_look(engine):
    """Many short jobs would get round the limit, and fill the disk."""
    job = run(engine, JobSpec("head", ["-c", str(5 * MIB), "/dev/zero"], output_limit=MIB))
    info = engine.output_info(job.id)
    assert (info.size, info.start) == (5 * MIB, 4 * MIB)
    assert os.stat(info.path).st_blocks * 512 <= 2 * MIB


def test_a_follower_that_falls_behind_is_told_of_the_gap(engine, tmp_path):
    """Bytes would be missing in the middle without any sign of it."""
    script = f"{waiting_for(tmp_path / 'go')}; head -c {4 * MIB} /dev/zero; sleep 600"
    job = begin(engine, shell(script, output_limit=MIB))
    gaps = []
    follower = engine.follow(job.id, on_gap=lambda due, start: gaps.append((due, start)))
    assert next(follower) == b"ready\n"
    (tmp_path / "go").touch()
    wait_until(lambda: engine.output_info(job.id).start > 0)
    next(follower)
    assert gaps == [(6, engine.output_info(job.id).start)]
    engine.kill(job.id, now=True)
    follower.close()


def test_where_no_hole_can_be_made_the_job_is_stopped(tmp_path, monkeypatch):
    """On such a file system an endless writer would fill the disk after all."""
    monkeypatch.setenv("WORKER_FAULTS", "punch:1:EOPNOTSUPP*1000")
    with Engine(tmp_path) as engine:
        job = engine.submit(shell("yes", output_limit=MIB), "me")
        job = engine.wait(job.id, 20)
    assert job.state is State.FAILED
    assert job.reason.startswith(
        "its output reached the limit of 1048576 bytes and the file system"
    )


def test_a_large_output_costs_no_memory(engine):
    """A job that writes much would take the server down."""
    pid = supervisor_pid(engine.state_dir)

    def memory(process):
        with open(f"/proc/{process}/status") as file:
            return int(file.read().split("VmHWM:")[1].split()[0]) * 1024

    before = memory(pid), memory(os.getpid())
    job = run(engine, JobSpec("head", ["-c", str(300 * MIB), "/dev/zero"]))
    assert sum(len(chunk) for chunk in engine.follow(job.id)) == 300 * MIB
    after = memory(pid), memory(os.getpid())
    assert after[0] - before[0] < 5 * MIB
    assert after[1] - before[1] < 20 * MIB
    engine.remove(job.id)


def test_no_process_of_ours_stands_between_a_job_and_its_output(engine):
    """A pipe of ours would block or end the job when we do."""
    job = run(engine, shell("readlink /proc/$$/fd/1"))
    path = engine.read_output(job.id).decode().strip()
    assert path == jobdir.JobDir(engine.state_dir, job.id).stream("stdout")
