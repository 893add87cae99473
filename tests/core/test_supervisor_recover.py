"""What a new supervisor makes of a job whose claim is all that there is."""

import os
import signal
import time
import uuid
from types import SimpleNamespace

import pytest
from worker_core import JobSpec, procfs
from worker_core.clock import SystemClock
from worker_core.jobdir import JobDir, boot_id, make_private_dir
from worker_core.supervisor import recover, tree
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.processes import Processes


@pytest.mark.parametrize(
    ("seconds_after_boot", "why"),
    [(-60, "the machine was restarted"), (1, "it ended while no supervisor was there")],
)
@pytest.mark.parametrize("claim", ['{"stop_signal": "SIGTERM"}', ""])
def test_the_reason_tells_a_power_cut_from_a_crash(tmp_path, seconds_after_boot, why, claim):
    """After a power cut somebody would look for a fault in worker that is none."""
    jobdir = JobDir(str(tmp_path), str(uuid.uuid4()))
    make_private_dir(jobdir.path)
    with open(jobdir.file("spec.json"), "w") as file:
        file.write(claim)
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    os.utime(jobdir.file("spec.json"), times=(booted + seconds_after_boot,) * 2)
    ends = []
    processes = SimpleNamespace(
        state_dir=str(tmp_path),
        jobs={},
        boot=boot_id(),
        now=time.time,
        take_lost=lambda process, end: ends.append(end),
    )
    assert recover.known(processes, jobdir.job_id) == {"running": None}
    assert [end.cause for end in ends] == ["lost"]
    assert ends[0].reason.startswith(f"the end could not be observed: {why}")


@pytest.fixture
def begun(tmp_path):
    """Return what starts a job that sleeps, in this process: all jobs, and its leader and files."""
    told, leaders = [], []
    loop = Loop(SystemClock())
    processes = Processes(
        str(tmp_path),
        loop,
        None,
        root_jobs=True,
        emit=told.append,
        watched=lambda: True,
        on_empty=lambda: None,
    )

    def begin():
        directory = JobDir(str(tmp_path), str(uuid.uuid4()))
        make_private_dir(directory.path)
        processes.start(directory.job_id, JobSpec("sleep", ["600"]).to_dict())
        leaders.append(processes.jobs[directory.job_id].leader)
        assert told == []  # of a job that may be over in a moment
        return processes, leaders[-1], directory

    yield begin
    for leader in leaders:
        os.kill(leader, signal.SIGKILL)
        os.waitpid(leader, 0)
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


def test_each_leader_is_recorded_before_another_program_takes_over(begun):
    """After an upgrade the job that has just begun would be looked for by its mark alone."""
    processes, leader, directory = begun()
    assert directory.pid() is None
    processes.record_all()
    recorded = directory.pid()
    assert (recorded.pid, recorded.start_time) == (leader, procfs.stat(leader).start_time)


def test_without_a_mark_each_leader_is_recorded_at_once(begun, monkeypatch):
    """When the supervisor dies, nobody would find the job again."""
    monkeypatch.setattr(tree, "can_mark", lambda _: False)
    _, leader, directory = begun()
    assert directory.pid().pid == leader
