"""What a new supervisor makes of a job whose claim is all that there is."""

import os
import time
import uuid
from types import SimpleNamespace

import pytest
from worker_core.jobdir import JobDir, boot_id, make_private_dir
from worker_core.supervisor import recover


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
